"""Which layers matter, found exhaustively, and which cheap score finds them: the kind of study ``faithfulness``, and
the selectors ``causal`` and ``oracle-layers``."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import pluggy

if TYPE_CHECKING:
    from c3po_adaptive import LayerSelector

    from .study import Faithfulness

hookimpl = pluggy.HookimplMarker("c3po_adaptive")  # that of c3po_adaptive itself, without what it loads


@hookimpl
def register_layer_selectors() -> list[type[LayerSelector]]:
    from .single_layer import Causal, OracleLayers

    return [Causal, OracleLayers]


@hookimpl
def register_studies() -> dict[str, Callable[[], Faithfulness]]:
    return {"faithfulness": _study}


def _study() -> Faithfulness:
    """What takes seconds to import, when it is asked for."""
    from .study import Faithfulness

    return Faithfulness()
