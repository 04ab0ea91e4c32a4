"""How records print that hold tensors: in a few lines, whatever they hold."""

from __future__ import annotations

from dataclasses import fields
from reprlib import Repr
from typing import Any


class _Brief(Repr):
    """Tensors and arrays by their shape; of what is long the beginning and the end."""

    def __init__(self) -> None:
        super().__init__()
        self.maxtuple = self.maxlist = self.maxdict = self.maxset = self.maxfrozenset = 4
        self.maxlevel, self.maxstring, self.maxother = 2, 60, 60

    def repr_Tensor(self, tensor: Any, level: int) -> str:  # reprlib goes by the type's name
        return str(list(tensor.shape))

    repr_Parameter = repr_ndarray = repr_Tensor


_BRIEF = _Brief()


def in_brief(record: Any) -> str:
    """The ``__repr__`` of a dataclass: its fields, none of which fills a screen."""
    shown = {f.name: _BRIEF.repr(getattr(record, f.name)) for f in fields(record) if f.repr and f.name[0] != "_"}
    parts = ", ".join(f"{name}={' '.join(said.split())}" for name, said in shown.items())
    return f"{type(record).__name__}({parts})"
