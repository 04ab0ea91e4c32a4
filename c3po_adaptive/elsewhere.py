"""What the core does not bring: loaded from who does, or named where that is not installed or not loaded."""

from __future__ import annotations

from collections.abc import Callable
from importlib.metadata import EntryPoint, entry_points
from typing import Any

from .errors import PluginError

PICTURES = "c3po_adaptive.pictures"
"""What draws what the core has: entry points of this group by its name, functions from it to a figure."""
_ENGINES = "pip install ./plugins/vllm"
_WHOLE = "which is installed with the whole package (pip install .)"
_BASELINES = ("contextual", "dense", "in-context", "knn-label", "length-exponent", "pmi", "surface-logit")
_COMMANDS = {"experts": "experts", "export": "harness", "fault": "faults", "trace": "traces"}
_COMMANDS |= {name: name for name in ("audit", "compare", "repair")}
_BOUNDS = {"answerer": "sound-routing", "optimizer": "fault-undone", "selector": "fault-layers"}
BROUGHT = {
    **{("kind of study", name): f"plugins/{name}, {_WHOLE}" for name in ("faithfulness", "faults")},
    **{("answerer", name): f"plugins/baselines, {_WHOLE}" for name in _BASELINES},
    **{("retriever", name): f"plugins/approximate, {_WHOLE}" for name in ("faiss-hnsw", "faiss-ivf")},
    **{("selector", name): f"plugins/faithfulness, {_WHOLE}" for name in ("causal", "oracle-layers")},
    **dict.fromkeys(_BOUNDS.items(), f"plugins/faults, {_WHOLE}"),
    **{("command", name): f"plugins/{of}, {_WHOLE}" for name, of in _COMMANDS.items()},
    ("model", "smollm2-moe-misrouted"): f"plugins/faults, {_WHOLE}",
    ("kind of study", "speed"): "--plugin studies/speed/kind.py",
    ("source of questions", "benchmarks"): f"plugins/benchmarks, {_WHOLE}",
    ("source of questions", "bed"): f"plugins/bed, {_WHOLE}",
    ("source of questions", "lm_eval"): "pip install 'c3po_adaptive[eval]' (plugins/harness)",
    ("report of two", "comparison"): f"plugins/compare, {_WHOLE}",
    ("store", "hub"): f"plugins/hub, {_WHOLE}",
    ("picture", "trace"): f"plugins/traces, {_WHOLE}",
    ("engine", "ray"): f"plugins/ray, {_WHOLE}",
    **{("trace reader", engine): _ENGINES for engine in ("transformers", "vllm", "sglang", "prime-rl", "llama.cpp")},
    **{("trace writer", engine): _ENGINES for engine in ("vllm", "sglang")},
}
"""How what is elsewhere is had, by role and name."""


NAMES = "c3po_adaptive.names"
"""Entry points of this group are Python names that packages add to the core's, for who looks for them there."""


def added(name: str) -> EntryPoint | None:
    """The Python name that an installed package adds; None: none does."""
    return next(iter(entry_points(group=NAMES, name=name)), None)


def where(name: str, role: str | None = None) -> str:
    """What to do to have what is elsewhere, of a role or of any; "" if nothing of that name is."""
    known = [how for (of, called), how in BROUGHT.items() if called == name and role in (of, None)]
    return f"it is in a plugin of the repository: {known[0]}." if known else ""


def loaded(point: EntryPoint, what: str) -> Any:
    """What an installed package's entry point stands for.

    Raises:
        PluginError: it cannot be loaded; ``what`` it is begins the message.
    """
    try:
        return point.load()
    except (Exception, SystemExit) as error:
        raise PluginError(
            f"Expected {what} in {point.value}, got {type(error).__name__}: {error}; correct the package that brings "
            "it, or remove it."
        ) from error


def drawn(name: str) -> Callable[..., Any]:
    """What draws the picture of that name.

    Raises:
        PluginError: nothing that is installed does.
    """
    for point in entry_points(group=PICTURES, name=name):
        found: Callable[..., Any] = loaded(point, f"what draws a {name}")
        return found
    raise PluginError(f"Expected a package that draws a {name}, got none; {where(name, 'picture')}")
