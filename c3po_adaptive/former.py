"""Names of before, which files and configurations of then still hold, and what they are called now."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

STRATEGIES = {("optimizer", "amortised-ngd"): "amortized-ngd", ("selector", "amortised"): "amortized"}
"""Strategies, by role and name."""

PARAMETERS = {
    "practice": "training",
    "target": "of",
    "candidates": "within_last",
    "parametrisation": "parametrization",
}
"""Parameters of strategies that have them under the new name."""

SETTINGS = {"target": "loss"}
"""Settings of re-mixing."""

FORMATS = {"normalise": "normalize"}
"""Settings of formats."""

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

PUBLIC = {"LabelledProblem": "LabeledProblem"}
"""Names at the package's root."""


def where(name: str, role: str | None = None) -> str:
    """What to do to have what was built in, of a role or of any; "" if nothing of that name was."""
    known = [how for (of, called), how in PLUGINS.items() if called == name and role in (of, None)]
    return f"it is in a plugin of the repository: {known[0]}." if known else ""


def renamed(given: Mapping[str, Any], names: Mapping[str, str]) -> dict[str, Any]:
    """Keys as they are called now, with a warning where one is not."""
    return {now(key, names): value for key, value in given.items()}


def now(name: str, names: Mapping[str, str]) -> str:
    """What a name is called now, with a ``FutureWarning`` (shown to users, unlike others) if that is another."""
    if name in names:
        warnings.warn(f"{name!r} is now called {names[name]!r}; the old name will be refused.", FutureWarning, 2)
    return names.get(name, name)


@contextmanager
def silently() -> Iterator[None]:
    """What was written before may use the names of before."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "'.*' is now called '", FutureWarning)
        yield
