"""Whether tensors still hold the numbers that they held, found without reading one."""

from __future__ import annotations

from collections.abc import Sequence
from operator import attrgetter
from threading import Lock
from typing import Any
from weakref import WeakSet

from torch import Tensor
from torch.multiprocessing.reductions import StorageWeakRef
from torch.optim.optimizer import Optimizer, register_optimizer_step_post_hook

_GUARD = Lock()
_WATCHING: WeakSet[Unwritten] = WeakSet()
_STORAGE, _VERSION = attrgetter("_cdata"), attrgetter("_version")


class Unwritten:
    """Tensors as they are now: which they are, where they lie, and how often each was written to.

    Seen are writes in place, also under ``torch.no_grad()``, every step of an optimizer of torch, which fused ones do
    not count as writes, and new memory (``.to``, ``.data = …``). Not seen is what writes past torch: in place through
    ``.data`` or ``.detach().numpy()``, by a kernel of one's own, by a CUDA graph. None of the tensors is kept alive;
    nor is one referred to weakly, as torch swaps none that is (``torch.utils.swap_tensors``).

    Attributes:
        stepped: an optimizer wrote to one of them since.
    """

    def __init__(self, tensors: Sequence[Tensor]) -> None:
        self._storages = [StorageWeakRef(t.untyped_storage()) for t in tensors]  # so that no other gets their address
        self._which, self._where, self._writes = list(map(id, tensors)), _where(tensors), _writes(tensors)
        self.stepped = False
        with _GUARD:
            _WATCHING.add(self)

    def __deepcopy__(self, memo: dict[int, Any]) -> Unwritten:
        """Of the same tensors: a copy of the storages' references would let go of them twice."""
        return self

    def holds(self, tensors: Sequence[Tensor]) -> bool:
        """Whether these are the same, and none was written to."""
        return (
            not self.stepped
            and list(map(id, tensors)) == self._which
            and _writes(tensors) == self._writes
            and _where(tensors) == self._where
        )

    def step(self, written: set[int]) -> None:
        """An optimizer wrote to the tensors of these numbers."""
        self.stepped = self.stepped or not written.isdisjoint(self._which)


def _where(tensors: Sequence[Tensor]) -> list[int]:
    return list(map(_STORAGE, map(Tensor.untyped_storage, tensors)))


def _writes(tensors: Sequence[Tensor]) -> list[int]:
    try:
        return list(map(_VERSION, tensors))
    except RuntimeError:  # made under torch.inference_mode(): such are not counted
        return [-1 if t.is_inference() else t._version for t in tensors]


def _stepped(optimizer: Optimizer, *_: Any) -> None:
    written = {id(parameter) for group in optimizer.param_groups for parameter in group["params"]}
    with _GUARD:
        for watching in _WATCHING:
            watching.step(written)


register_optimizer_step_post_hook(_stepped)
