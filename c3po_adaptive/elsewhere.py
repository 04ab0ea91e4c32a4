"""Names that the core does not bring, and what brings them: for messages where that is not installed or not loaded."""

from __future__ import annotations

from collections.abc import Callable
from importlib.metadata import entry_points
from typing import Any

from .errors import PluginError

PICTURES = "c3po_adaptive.pictures"
"""What draws what the core has: entry points of this group by its name, functions from it to a figure."""
_ENGINES = "pip install ./plugins/vllm"
_WHOLE = "which is installed with the whole package (pip install .)"
_COMMANDS = {"export": "harness", "fault": "faults", "trace": "traces"}
_COMMANDS |= {name: name for name in ("audit", "compare", "repair")}
_BOUNDS = {"answerer": "sound-routing", "optimizer": "fault-undone", "selector": "fault-layers"}
BROUGHT = {
    **{("kind of study", name): f"plugins/{name}, {_WHOLE}" for name in ("faithfulness", "faults")},
    **dict.fromkeys(_BOUNDS.items(), f"plugins/faults, {_WHOLE}"),
    **{("command", name): f"plugins/{of}, {_WHOLE}" for name, of in _COMMANDS.items()},
    ("model", "smollm2-moe-misrouted"): f"plugins/faults, {_WHOLE}",
    ("kind of study", "speed"): "--plugin studies/speed/kind.py",
    ("source of questions", "bed"): f"plugins/bed, {_WHOLE}",
    ("source of questions", "lm_eval"): "pip install 'c3po_adaptive[eval]' (plugins/harness)",
    ("picture", "trace"): f"plugins/traces, {_WHOLE}",
    ("engine", "ray"): f"plugins/ray, {_WHOLE}",
    **{("trace reader", engine): _ENGINES for engine in ("transformers", "vllm", "sglang")},
    **{("trace writer", engine): _ENGINES for engine in ("vllm", "sglang")},
}
"""How what is elsewhere is had, by role and name."""


def where(name: str, role: str | None = None) -> str:
    """What to do to have what is elsewhere, of a role or of any; "" if nothing of that name is."""
    known = [how for (of, called), how in BROUGHT.items() if called == name and role in (of, None)]
    return f"it is in a plugin of the repository: {known[0]}." if known else ""


def drawn(name: str) -> Callable[..., Any]:
    """What draws the picture of that name.

    Raises:
        PluginError: nothing that is installed does.
    """
    for point in entry_points(group=PICTURES, name=name):
        found: Callable[..., Any] = point.load()
        return found
    raise PluginError(f"Expected a package that draws a {name}, got none; {where(name, 'picture')}")
