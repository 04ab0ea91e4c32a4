"""What was built in and has left the package, and how it is had now."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib.machinery import ModuleSpec
from types import ModuleType

_OPTIMIZERS = {"learned-pathway": "learned_pathway", "shrunken": "agreement"}
_SELECTORS = {
    "abstain": "abstain",
    "cross-fitted": "agreement",
    "disagreement": "learned_layers",
    "learned": "learned_layers",
    "rl-experts": "reinforced",
    "rl-layers": "reinforced",
}
_BOUNDS = {"answerer": "sound-routing", "optimizer": "fault-undone", "selector": "fault-layers"}
_ENGINES = "pip install ./plugins/vllm"
_WHOLE = "which is installed with the whole package (pip install .)"
PLUGINS = {
    **{("optimizer", name): f"--plugin plugins/{file}.py" for name, file in _OPTIMIZERS.items()},
    **{("selector", name): f"--plugin plugins/{file}.py" for name, file in _SELECTORS.items()},
    **{(role, "transfer"): "--plugin plugins/transfer.py" for role in ("kernel", "retriever")},
    **{("kind of study", name): f"plugins/{name}, {_WHOLE}" for name in ("faithfulness", "faults")},
    **dict.fromkeys(_BOUNDS.items(), f"plugins/faults, {_WHOLE}"),
    ("kind of study", "speed"): "--plugin studies/speed/kind.py",
    ("source of questions", "bed"): "plugins/bed, which is installed with the whole package (pip install .)",
    ("source of questions", "lm_eval"): "pip install 'c3po_adaptive[eval]' (plugins/harness)",
    ("engine", "ray"): "plugins/ray, which is installed with the whole package (pip install .)",
    **{("trace reader", engine): _ENGINES for engine in ("transformers", "vllm", "sglang")},
    **{("trace writer", engine): _ENGINES for engine in ("vllm", "sglang")},
}
"""What was built in, by role and name, and how it is had now."""
COMMANDS = {"board": "c3po report A B puts two runs side by side."}
"""Commands that there were, and what does their work now."""
PRESETS = {
    "constant": "it was not shown to gain in studies/answer, and has no name any more; what is compared there is "
    "optimizer={'name': 'constant-integrated-step', 'lr': 30}, selector={'name': 'fixed', 'layers': 'all', "
    "'experts': None}, settings={'learn_from': 'all', 'scope': 'all'}.",
}
"""Presets that there were, and what there is."""
MODELS = {
    "smollm2-moe-misrouted": f"it is made by plugins/faults, {_WHOLE}.",
    "smollm2-moe-carved": "it lies in commit bdc42fc of the repository, with what was measured on it; the embedded "
    "model is 'smollm2-moe'.",
}
"""Models that were built here, and where they are."""
MODULES = {
    "c3po_adaptive.audit": "c3po_audit: from c3po_audit import audit, routing_statistics.",
    **{
        f"c3po_adaptive.models.{name}": "c3po_faults: from c3po_faults import Fault, layers_of, planted, sound."
        for name in ("fault_files", "faults", "planting")
    },
    "c3po_adaptive.lm_eval": "c3po_harness: from c3po_harness import C3POLM, python -m c3po_harness.",
    "c3po_adaptive.tasks.bed": "c3po_bed: from c3po_bed import KINDS, LEARNED.",
}
"""Modules that there were, and what they are called now."""


class Moved:
    """Asked by Python for modules that nobody else finds."""

    @staticmethod
    def find_spec(name: str, path: Sequence[str] | None = None, target: ModuleType | None = None) -> ModuleSpec | None:
        if name in MODULES:
            raise ModuleNotFoundError(f"There is no module {name!r} any more; it is now {MODULES[name]}", name=name)
        return None


sys.meta_path.append(Moved)


def where(name: str, role: str | None = None) -> str:
    """What to do to have what was built in, of a role or of any; "" if nothing of that name was."""
    known = [how for (of, called), how in PLUGINS.items() if called == name and role in (of, None)]
    return f"it is in a plugin of the repository: {known[0]}." if known else ""
