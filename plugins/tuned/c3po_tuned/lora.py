"""Low-rank matrices beside a frozen model's own, by PEFT, trained on references."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import PositiveFloat, PositiveInt
from torch import nn

from c3po_adaptive import ModelError, Prompt

from .base import LayersTrained, Tuning
from .exchange import Place, exchanged

if TYPE_CHECKING:
    from c3po_adaptive import PromptPrefix, RoutedModel


@dataclass(frozen=True, kw_only=True)
class LoRA(LayersTrained):
    """Low-rank updates of linear layers, trained on references (Hu et al. 2021, arXiv 2106.09685).

    Attributes:
        layers: decoder layers that are trained: all, the last five, or a list; those below are run once.
        r: rank of an update.
        alpha: an update is multiplied by alpha / r.
        targets: the linear layers of the attention, all linear layers but routers and routed experts, or the routed
            experts, each with an update of its own.
    """

    r: PositiveInt = 8
    alpha: PositiveFloat = 16.0
    targets: Literal["attention", "linear", "experts"] = "attention"
    name: ClassVar[str] = "lora"
    positive: ClassVar[bool] = True

    def tuning(self, model: RoutedModel, prompts: Sequence[Prompt]) -> Tuning:
        from peft import LoraConfig, inject_adapter_in_model

        from c3po_adaptive import PromptPrefix

        wanted = self._experts(model) if self.targets == "experts" else self._wanted(model)
        # In a list of their own: PEFT renames targets of MoE models, and would leave its traces in the model.
        wrapped = nn.ModuleList(layer for _, layer in wanted.values())
        modules, parameters = _targets(wrapped)
        how: dict[str, Any] = {"r": self.r, "lora_alpha": self.alpha, "target_modules": modules}
        inject_adapter_in_model(LoraConfig(**how, target_parameters=parameters or None), wrapped)
        parts: dict[Place, nn.Module] = {}
        trained: dict[str, nn.Parameter] = {}
        wrappers: Any = wrapped
        for (place, (path, _)), module in zip(wanted.items(), wrappers, strict=True):
            parts[place] = module
            own = {name: p for name, p in module.named_parameters() if p.requires_grad}
            for p in own.values():  # small steps would be lost in half precision
                p.data = p.data.float()
            trained |= {f"{path}.{name}": p for name, p in own.items()}

        @contextmanager
        def placed() -> Iterator[PromptPrefix]:
            with exchanged(parts):
                yield PromptPrefix()

        # Of the updates of experts a token meets those of the experts that it uses.
        share = model.sites[0].top_k / model.n_experts if self.targets == "experts" else 1.0
        return Tuning(trained, placed, self._layers(model)[0], round(share * sum(p.numel() for p in trained.values())))

    def _layers(self, model: RoutedModel) -> tuple[int, ...]:
        return self.chosen(tuple(range(len(model.decoder_layers))), "decoder layers")

    def _experts(self, model: RoutedModel) -> dict[Place, tuple[str, nn.Module]]:
        """Where the routed experts of each layer stand."""
        wanted = {id(site.experts) for site in model.sites if site.layer in self._layers(model)}
        found: dict[Place, tuple[str, nn.Module]] = {}
        for number in self._layers(model):
            for path, module in model.decoder_layers[number].named_modules():
                for name, child in module.named_children():
                    if id(child) in wanted:
                        found[module, name] = (f"{number}.{path}.{name}", child)
        if not any(p.ndim == 3 for _, experts in found.values() for p in experts.parameters()):
            raise ModelError(
                f"lora expected {type(model.model).__name__} to have routed experts in decoder layers "
                f"{self._layers(model)}, their weights one tensor of all of them, found none; use targets: attention."
            )
        return found

    def _wanted(self, model: RoutedModel) -> dict[Place, tuple[str, nn.Module]]:
        """Where the linear layers that are adapted stand: their names, and themselves."""
        routed = {id(m) for site in model.sites for part in (site.experts, site.router) for m in part.modules()}
        found: dict[Place, tuple[str, nn.Module]] = {}
        for number in self._layers(model):
            for path, module in model.decoder_layers[number].named_modules():
                for name, child in module.named_children():
                    whole = f"{number}.{path}.{name}"
                    mine = self.targets == "linear" or "attn" in whole or "attention" in whole
                    if mine and isinstance(child, nn.Linear) and id(child) not in routed:
                        found[module, name] = (whole, child)
        if not found:
            family = model.model.config.get_text_config().model_type
            raise ModelError(
                f"lora expected {type(model.model).__name__} of the family {family} to have linear layers (targets: "
                f"{self.targets}) in decoder layers {self._layers(model)}, found none; use targets: linear, or "
                "router-tuning."
            )
        return found


def _targets(wrapped: nn.ModuleList) -> tuple[list[str], list[str]]:
    """Names of the linear layers in a list, and of the parameters that hold a matrix of each expert."""
    linear = [str(i) for i, layer in enumerate(wrapped) if isinstance(layer, nn.Linear)]
    return linear, [name for name, p in wrapped.named_parameters() if p.ndim == 3]
