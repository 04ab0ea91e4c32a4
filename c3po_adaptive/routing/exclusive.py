"""One thread at a time for what changes a model while it runs: hooks, injected hidden states, kept prompts."""

from __future__ import annotations

from threading import Lock, RLock
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

if TYPE_CHECKING:
    from torch import nn

_LOCKS: WeakKeyDictionary[nn.Module, Any] = WeakKeyDictionary()
_GUARD = Lock()


def exclusive(model: nn.Module) -> Any:
    """The lock of a transformers model, which whoever runs it through this package holds; a thread may take it again.

    A thread that calls the transformers model itself, past this package, waits for nobody, and may meet another's
    routing.
    """
    with _GUARD:
        if model not in _LOCKS:
            _LOCKS[model] = RLock()
        return _LOCKS[model]
