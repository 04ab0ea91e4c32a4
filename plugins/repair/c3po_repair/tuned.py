"""The rival of the regression: routers trained by gradient on the references, and tried on those that were left out."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from torch import Tensor

from c3po_adaptive import (
    AnsweringContext,
    Format,
    Question,
    RoutedModel,
    as_format,
    default_embedder,
    default_registry,
    preset_named,
    reference_set_of,
    router_tensors,
    with_tensors,
)

from .left_out import TOGETHER, Repair, answered, folds_of, judged, once
from .mend import EVERYWHERE

RATES = (1e-3, 3e-3)
EPOCHS = 4
FOLDS = 2  # each try is trained once for each


def tuned(
    model: RoutedModel, questions: Sequence[Question], *, format: str | Format = "cloze", seed: int = 0
) -> Repair:
    """Routers of all MoE layers trained on labeled references, at the better of two learning rates.

    Args:
        model: it is left as it is.
        questions: the references, with their answers.
        format: how they are put.
        seed: of the folds, and of the order in which they are learned from.

    Raises:
        DataError: fewer than twenty different references.
        ModelError: a family whose routers cannot be trained.
    """
    questions, again = once(questions)
    folds, spent = folds_of(questions, FOLDS, seed), 0.0
    with_tensors(model, {})  # refuses what cannot be mended before it is trained
    train = _trainer(model, questions, as_format(format), seed)
    before, _ = answered(model, [(model, fold) for fold in folds], format)
    tries = {}
    for rate in RATES:
        made = [train(rate, fold) for fold in folds]
        found, flops = answered(model, [(one, fold) for (one, _), fold in zip(made, folds, strict=True)], format)
        tries[rate], spent = found, spent + flops + sum(training for _, training in made)
    best = min(RATES, key=lambda rate: float(tries[rate].loss.mean()))
    whole, flops = train(best, ())
    found, _ = judged([tries[rate] for rate in RATES], folds)
    return Repair(whole, ({"lr": best},), before, found, spent + flops, again)


def _trainer(
    model: RoutedModel, questions: Sequence[Question], format: Format, seed: int
) -> Callable[[float, Sequence[Question]], tuple[RoutedModel, float]]:
    """From a learning rate and the references that are left out to the trained model, and the FLOPs of training it."""
    registry = default_registry()
    strategies, embedder = registry.strategies(preset_named("c3po").specs), default_embedder()
    references = reference_set_of(questions, model, embedder, format)
    settings = EVERYWHERE.model_copy(update={"seed": seed})

    def train(rate: float, left_out: Sequence[Question]) -> tuple[RoutedModel, float]:
        held_out = frozenset(question.id for question in left_out)
        context = AnsweringContext(
            model, strategies, embedder, format, settings, TOGETHER, held_out, lambda: references
        )
        named = {"name": "router-tuning", "layers": "all", "lr": rate, "epochs": EPOCHS}
        learned: Any = registry.create("answerer", named).prepare(context)
        return with_tensors(model, _routers(model, learned.tuning)), learned.setup_flops

    return train


def _routers(model: RoutedModel, tuning: Any) -> dict[str, Tensor]:
    """All that routers choose by, as it was trained; nothing, where the model as it was is better."""
    if tuning is None:
        return {}
    with tuning.placed():
        return {
            name: tensor.detach().clone()
            for site in model.sites
            for name, tensor in router_tensors(model.model, site).items()
        }
