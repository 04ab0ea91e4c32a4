"""What each layer's router does by itself: exchanged with that of another model, which differs in its routers alone."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from c3po_adaptive import Prompt, RoutedModel, SettingError, bar, right_answer_loss, router_tensors, with_tensors
from c3po_adaptive.types import LossName

EXCHANGED = ("set right", "set wrong")
"""By how much the right answer's loss falls with one layer's router of the other model, and by how much the other
model's rises with that layer's router of this one: at every token of prompt and options."""


@dataclass(frozen=True, eq=False)
class ExchangedRouters:
    """A model and another, each with one router of the other's; all share their other numbers.

    Attributes:
        model: whose layers are asked about.
        other: whose routers are taken to be right.

    Raises:
        SettingError: they differ in more than that.
    """

    model: RoutedModel
    other: RoutedModel
    _made: tuple[list[RoutedModel], list[RoutedModel]] = field(init=False)

    def __post_init__(self) -> None:
        if (said := _differing(self.model, self.other)) is not None:
            raise SettingError(
                f"Expected beside: a model that differs from {self.model.name!r} in its routers alone, got "
                f"{self.other.name!r}, which {said}."
            )
        made = [*_each(self.model, self.other)], [*_each(self.other, self.model)]
        object.__setattr__(self, "_made", made)

    def effects(self, prompts: Sequence[Prompt], answers: Tensor, loss: LossName) -> dict[str, Tensor]:
        """``[B, L]`` for each of ``EXCHANGED``; positive where the other model's router is the better one."""
        found = {}
        for name, whole, made, sign in zip(EXCHANGED, (self.model, self.other), self._made, (1, -1), strict=True):
            before = _loss(whole, prompts, answers, loss)
            after = [_loss(one, prompts, answers, loss) for one in bar(made, f"{len(prompts)} questions: {name}")]
            found[name] = torch.stack([sign * (before - loss_) for loss_ in after], 1)
        return found


def _differing(model: RoutedModel, other: RoutedModel) -> str | None:
    """What the other has otherwise, beside its routers, if anything."""
    here, there = (m.model.state_dict() for m in (model, other))
    if shapes := [n for n in {**here, **there} if n not in here or n not in there or here[n].shape != there[n].shape]:
        return f"has other tensors, or of other shapes, {shapes[0]} first"
    routers = {name for site in model.sites for name in router_tensors(model.model, site)}
    others = [n for n in here if n not in routers and not torch.equal(here[n], there[n].to(here[n]))]
    return f"has other numbers in {others[0]}" if others else None


def _each(model: RoutedModel, other: RoutedModel) -> Iterator[RoutedModel]:
    """The model with the other's router in one layer, for each."""
    for site, place in zip(model.sites, other.sites, strict=True):
        taken = router_tensors(other.model, place)
        yield with_tensors(model, {name: taken[name] for name in router_tensors(model.model, site)})


@torch.no_grad()
def _loss(model: RoutedModel, prompts: Sequence[Prompt], answers: Tensor, loss: LossName) -> Tensor:
    scores = model.choice_scores(model.prefill(prompts, keep=False))
    return right_answer_loss(pad_sequence(scores, True, -torch.inf), answers, loss)
