"""Attribution of a scalar f(Ω) to the explicit pathway Ω, by Captum: method, baseline and f by name."""

from __future__ import annotations

import pluggy

from .attribute import attribute
from .attributed import Attributed
from .baselines import Baseline, baseline_pathway
from .choices import Choice
from .methods import CAPTUM, METHODS
from .selector import Attribution
from .weight_groups import Groups

__all__ = ["CAPTUM", "METHODS", "Attributed", "Attribution", "Baseline", "Choice", "Groups", "attribute"]
__all__ += ["baseline_pathway"]

hookimpl = pluggy.HookimplMarker("c3po_adaptive")  # that of c3po_adaptive itself, without what it loads


@hookimpl
def register_layer_selectors() -> list[type[Attribution]]:
    return [Attribution]
