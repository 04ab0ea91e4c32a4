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
    **{("trace reader", engine): _ENGINES for engine in ("transformers", "vllm", "sglang")},
}
"""What was built in, by role and name, and how it is had now."""
