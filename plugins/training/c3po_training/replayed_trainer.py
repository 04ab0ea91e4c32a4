"""Trainers whose steps go along the routes that their batches bring."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from transformers import Trainer

from c3po_adaptive import SettingError, Trace, replaying

ROUTES = "routes"
"""What they are called in a batch."""


class ReplayedTrainer(Trainer):
    """A trainer that routes each batch as its ``routes`` say (``replaying``), forward and backward.

    As a first base it makes another trainer one: ``class Replayed(ReplayedTrainer, GRPOTrainer)``. Routes are expert
    ids ``[B, T, L, k]`` beside padded tokens, or a list of ids ``[T_i, L, k]`` or of traces, a sequence each. Traces
    may be of the model as it was; where they have weights, these are used, and the router gets no gradients.
    ``TrainingArguments`` have to keep the column: ``remove_unused_columns=False``.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if not isinstance(self.data_collator, _Keeping):
            self.data_collator = _Keeping(self.data_collator, needed=False)

    def training_step(self, *args: Any, **kwargs: Any) -> Tensor:
        """One step; what ``compute_loss`` opens stays open for its ``backward``, which runs checkpointed layers again.

        Raises:
            ShapeError, SettingError, ModelError: as ``replaying``.
        """
        with ExitStack() as self._replays:
            return super().training_step(*args, **kwargs)

    def compute_loss(self, model: nn.Module, inputs: Mapping[str, Any], *args: Any, **kwargs: Any) -> Any:
        """The loss along the batch's routes.

        Raises:
            SettingError: it has none; or as ``replaying``.
        """
        if inputs.get(ROUTES) is None:
            raise _missing("batch", inputs)
        rest = {name: value for name, value in inputs.items() if name != ROUTES}
        along = replaying(self.accelerator.unwrap_model(model), inputs[ROUTES], foreign=True)
        if model.training:
            self._replays.enter_context(along)
            return super().compute_loss(model, rest, *args, **kwargs)
        with along:
            return super().compute_loss(model, rest, *args, **kwargs)


@dataclass(frozen=True)
class _Keeping:
    """A collator that keeps routes; where they are not ``needed``, rows may come without."""

    collate: Callable[[list[Any]], Any]
    needed: bool = True

    def __call__(self, rows: list[Any]) -> Any:
        without = [row for row in rows if row.get(ROUTES) is None]
        if not self.needed and len(without) == len(rows):
            return self.collate(rows)
        if without:
            raise _missing("row", without[0])
        rest = [{name: value for name, value in row.items() if name != ROUTES} for row in rows]
        routes = [row[ROUTES] for row in rows]
        return {
            **self.collate(rest),
            ROUTES: [one if isinstance(one, Trace) else torch.as_tensor(one) for one in routes],
        }


def with_routes(
    collate: Callable[[list[Any]], Mapping[str, Any]],
) -> Callable[..., dict[str, Any]]:
    """A collator that keeps each row's ``routes``, ids ``[T, L, k]`` or a trace, beside what another makes of the rest.

    ``ReplayedTrainer`` keeps them with any collator; this is for other trainers, and for batches made by hand.

    Raises:
        SettingError: when it is called, of rows without.
    """
    return _Keeping(collate)


def _missing(part: str, names: Iterable[str]) -> SettingError:
    return SettingError(
        f"Expected {ROUTES!r} in each {part}, got {', '.join(names)}; say remove_unused_columns=False, and give "
        "them with each row."
    )
