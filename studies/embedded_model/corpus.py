"""Text that the embedded model's last expert learns from, and that it is measured on: no benchmark, nothing downloaded.

Both are reproducible on any machine that has the packages:

- ``documentation``: docstrings of installed Python packages (training),
- ``independent``: the language reference that ships with Python as ``pydoc_data.topics`` (measuring only).
"""

import ast
import importlib.util
import random
import re
from collections.abc import Iterator
from pathlib import Path

import torch
from torch import Tensor
from transformers import PreTrainedTokenizerBase


def _docstrings(source: str) -> Iterator[str]:
    try:
        tree = ast.parse(source)
    except SyntaxError:  # templates and python 2 leftovers that some packages ship
        return
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            text = ast.get_docstring(node)
            if text and len(text) >= 200:
                yield text


def documentation(packages: tuple[str, ...]) -> list[str]:
    """Docstrings of at least 200 characters, without duplicates, in the order of the sorted file names."""
    seen: dict[str, None] = {}
    for package in packages:
        spec = importlib.util.find_spec(package)
        if spec is None or not spec.submodule_search_locations:
            raise ModuleNotFoundError(f"The recovery corpus needs the package {package!r}; pip install it.")
        for path in sorted(Path(spec.submodule_search_locations[0]).rglob("*.py")):
            if "tests" not in path.parts:
                seen.update(dict.fromkeys(_docstrings(path.read_text(errors="ignore"))))
    return list(seen)


def independent() -> list[str]:
    """Python's own language reference: real prose that is in none of the training sources."""
    from pydoc_data.topics import topics

    return [re.sub(r"\n{3,}", "\n\n", text) for _, text in sorted(topics.items()) if len(text) >= 400]


def pack(texts: list[str], tokenizer: PreTrainedTokenizerBase, length: int, limit: int, seed: int) -> Tensor:
    """Shuffle, join with the end token, and cut into rows: ``[N, T]`` token ids, at most ``limit`` rows."""
    order = random.Random(seed).sample(range(len(texts)), len(texts))
    ids: list[int] = []
    for index in order:
        ids += [*tokenizer(texts[index]).input_ids[: 8 * length], tokenizer.eos_token_id]
        if len(ids) >= limit * length:
            break
    rows = min(limit, len(ids) // length)
    return torch.tensor(ids[: rows * length]).view(rows, length)
