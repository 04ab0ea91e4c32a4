"""What was built in and has left the package, and how it is had now."""

from __future__ import annotations

_OPTIMIZERS = {"learned-pathway": "learned_pathway", "shrunken": "agreement"}
_SELECTORS = {
    "abstain": "abstain",
    "cross-fitted": "agreement",
    "disagreement": "learned_layers",
    "learned": "learned_layers",
    "rl-experts": "reinforced",
    "rl-layers": "reinforced",
}
_ENGINES = "pip install ./plugins/vllm"
PLUGINS = {
    **{("optimizer", name): f"--plugin plugins/{file}.py" for name, file in _OPTIMIZERS.items()},
    **{("selector", name): f"--plugin plugins/{file}.py" for name, file in _SELECTORS.items()},
    **{(role, "transfer"): "--plugin plugins/transfer.py" for role in ("kernel", "retriever")},
    ("kind of study", "speed"): "--plugin studies/speed/kind.py",
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
    "smollm2-moe-carved": "it lies in commit bdc42fc of the repository, with what was measured on it; the embedded "
    "model is 'smollm2-moe'."
}
"""Models that were built here, and where they are."""


def where(name: str, role: str | None = None) -> str:
    """What to do to have what was built in, of a role or of any; "" if nothing of that name was."""
    known = [how for (of, called), how in PLUGINS.items() if called == name and role in (of, None)]
    return f"it is in a plugin of the repository: {known[0]}." if known else ""
