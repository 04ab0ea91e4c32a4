"""Attacks on data sets: what ``poison`` names in a study's configuration."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pluggy

if TYPE_CHECKING:
    from collections.abc import Callable

    from c3po_adaptive.study import Poisoned

hookimpl = pluggy.HookimplMarker("c3po_adaptive")  # that of c3po_adaptive itself, without what it loads


@hookimpl
def register_attacks() -> dict[str, Callable[..., Poisoned]]:
    from .poisoning import ATTACKS, poisoned

    return dict.fromkeys(ATTACKS, poisoned)
