"""One hash for whatever has to be identified: configurations, questions, files, and who learned what."""

from __future__ import annotations

import hashlib
import json
import platform
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from ..errors import DataError

PACKAGES = ("torch", "transformers", "captum", "c3po_adaptive")
ROUTING_PACKAGES = ("torch", "transformers", "c3po_adaptive")
KERNELS = "kernels"
"""Replaces, where it is installed, norms, rotary embeddings and activations on a GPU: routing may differ."""


def digest(value: Any) -> str:
    """SHA-256 of a JSON value, whatever the order of its keys.

    Raises:
        DataError: JSON cannot hold it.
    """
    try:
        text = json.dumps(value, sort_keys=True, ensure_ascii=False, allow_nan=False).encode()
    except (TypeError, ValueError) as error:
        raise DataError(
            f"Expected values that JSON can hold, got: {error}; turn them into names and numbers."
        ) from error
    return hashlib.sha256(text).hexdigest()


def digest_of_file(path: Path) -> str:
    """SHA-256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def files_beside(module: str) -> list[Path]:
    """Files of modules that a module imported from beside it (``from .other import …``), as plugin files may."""
    names = sorted(name for name in sys.modules if name.startswith(f"{module}."))
    return [Path(file) for name in names if (file := sys.modules[name].__file__) is not None]


def versions() -> dict[str, str | None]:
    """Of Python and the packages that results depend on; None for what is not installed."""
    return {"python": platform.python_version(), **{name: _version(name) for name in PACKAGES}, **_kernels()}


def routing_versions() -> dict[str, str]:
    """Of the packages that decide how a model routes: what is cached of a model belongs to these."""
    return {name: version(name) for name in ROUTING_PACKAGES} | _kernels()


def _kernels() -> dict[str, str]:
    """Nothing where it is not installed, as what was cached before it was known says nothing of it."""
    return {} if (found := _version(KERNELS)) is None else {KERNELS: found}


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None
