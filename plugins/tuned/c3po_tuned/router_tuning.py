"""The routers' own weights, trained on references."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from c3po_adaptive import Prompt

from .base import Layers, LayersTrained, Tuning
from .exchange import Copies

if TYPE_CHECKING:
    from c3po_adaptive import PromptPrefix, RoutedModel, Strategies


@dataclass(frozen=True, kw_only=True)
class RouterTuning(LayersTrained):
    """The routers' own weights, trained on references: one routing for all questions, where C3PO finds one for each.

    The supervised counterpart of re-mixing: the same lever, the same labels, but parameters in place of pathways.
    Gradients reach a router through the weights of the experts that it chose.

    Attributes:
        layers: MoE layers whose routers are trained: all, the last five, or a list; layers below are run once.
    """

    layers: Layers = "last-five"
    name: ClassVar[str] = "router-tuning"
    uses_peft: ClassVar[bool] = False

    def fits(self, strategies: Strategies, layers: tuple[int, ...], experts: int, references: int) -> None:
        super().fits(strategies, layers, experts, references)
        self.chosen(layers, "MoE layers")

    def tuning(self, model: RoutedModel, prompts: Sequence[Prompt]) -> Tuning:
        from c3po_adaptive import PromptPrefix

        layers = self.chosen(model.layers, "MoE layers")
        routers = [site.router for site in model.sites if site.layer in layers]
        copies = Copies.of(model.model, (p for router in routers for p in router.parameters()), "routers with weights")

        @contextmanager
        def placed() -> Iterator[PromptPrefix]:
            with copies.placed():
                yield PromptPrefix()

        matrices = sum(p.numel() for p in copies.trained.values() if p.ndim == 2)
        return Tuning(copies.trained, placed, layers[0], matrices)
