"""What each expert adds to each token of a text: its weight times the norm of its output."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from threading import get_ident
from typing import Any

import torch
from torch import Tensor, nn

from c3po_adaptive import ModelError, NotFinite, RoutedModel, SeenRouting, watching


class Outputs:
    """Sums over the tokens of one text.

    Attributes:
        used: ``[L, E]`` how many tokens used each expert.
        added: ``[L, E]`` the sum of its weight times the norm of its output.
    """

    def __init__(self, layers: int, experts: int) -> None:
        self.used, self.added = (torch.zeros(layers, experts, dtype=torch.float64) for _ in range(2))

    def add(self, position: int, index: Tensor, values: Tensor) -> None:
        """Tokens ``[R, k]`` of a layer: the experts that they use, and what each adds."""
        index, values = index.reshape(-1).cpu(), values.reshape(-1).double().cpu()
        self.used[position].scatter_add_(0, index, torch.ones_like(values))
        self.added[position].scatter_add_(0, index, values)


@torch.no_grad()
def outputs_of(model: RoutedModel, text: str) -> Outputs:
    """What experts add to the tokens of a text, along the model's own routing.

    Raises:
        DataError: the model cannot read the text.
        ModelError: experts whose outputs cannot be had one by one: those of llama4 and JetMoE.
        NotFinite: NaN or infinity in what they add.
    """
    ids = torch.tensor([model.encode_text(text).ids], device=model.model.device)
    with model.answering(), _summing(model) as found:
        model.model(input_ids=ids, use_cache=False)
    if not found.added.isfinite().all():
        raise NotFinite.of(f"outputs of experts for {text[:60]!r}", torch.zeros((), dtype=model.model.dtype))
    return found


@contextmanager
def _summing(model: RoutedModel) -> Iterator[Outputs]:
    found = Outputs(len(model.layers), model.n_experts)
    hidden: dict[nn.Module, Tensor] = {}
    thread = get_ident()

    def see(seen: SeenRouting) -> None:
        experts = seen.site.experts
        if experts not in hidden:
            raise ModelError(
                f"Expected experts that are called with hidden states, experts and weights, got "
                f"{type(experts).__name__} of a family that weighs elsewhere; c3po trace stats tells their load."
            )
        one = torch.ones_like(seen.weights[:, :1])
        norms = [  # not called: hooks would run again
            _rows(experts.forward(hidden[experts], seen.experts[:, [place]], one)).float().norm(dim=-1)
            for place in range(seen.experts.shape[1])
        ]
        found.add(seen.position, seen.experts, seen.weights.float() * torch.stack(norms, 1))

    def keep(module: nn.Module, args: tuple[Any, ...]) -> None:
        if len(args) == 3 and get_ident() == thread:
            hidden[module] = args[0]

    with ExitStack() as stack:
        for site in model.sites:
            stack.callback(site.experts.register_forward_pre_hook(keep).remove)
        stack.enter_context(watching(model, see))
        yield found


def _rows(output: Tensor) -> Tensor:
    return output.reshape(-1, output.shape[-1])
