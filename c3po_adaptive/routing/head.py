"""The language-model head: logits of final hidden states, by the model's own scaling and capping."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel
from transformers.modeling_outputs import MoeModelOutputWithPast

from ..errors import ModelError
from .finite import NotFinite, finite
from .modules import hook_after, hook_before, hooked, in_this_thread
from .sites import WORKING, decoder_of

ROWS = 256  # tokens whose logits are held at a time


@contextmanager
def forward_as(module: nn.Module, forward: Callable[..., Any]) -> Iterator[None]:
    """Give a module another forward in this thread; afterwards it has its own again (or that of device hooks)."""
    shadow = module.__dict__.get("forward")
    module.forward = in_this_thread(forward, module.forward)
    try:
        yield
    finally:
        if shadow is None:
            del module.__dict__["forward"]
        else:
            module.forward = shadow


@contextmanager
def read_for_generation(model: PreTrainedModel) -> Iterator[None]:
    """Let the head read contiguous hidden states, and give finite logits, while ``generate`` runs inside the block.

    It takes its prompts' last tokens as a strided slice, which torch (2.13) multiplies by a frozen weight sequence by
    sequence: as much work for the head as ten new tokens. Of NaN the likeliest token is the first of the vocabulary.

    Raises:
        NotFinite: on a call, for the tokens that are continued.
    """

    def read(module: nn.Module, args: tuple[Any, ...]) -> tuple[Any, ...]:
        return tuple(x.contiguous() if isinstance(x, Tensor) else x for x in args)

    def check(module: nn.Module, args: tuple[Any, ...], logits: Tensor) -> None:
        if not finite(logits[:, -1]):
            for final in args[:1]:
                check_final(final[:, -1])
            raise NotFinite.of("logits", logits)

    layer = projection(model)
    with hooked([hook_before(layer, read), hook_after(layer, check)]):
        yield


def projection(model: PreTrainedModel) -> Any:
    """The head's projection onto the vocabulary; None if there is none. It may be that of a language model with a head
    of its own, which the model holds (transformers: models/nemotron_h_omni/modeling_nemotron_h_omni.py)."""
    own = model.get_output_embeddings()
    if own is None and isinstance(inside := getattr(model, "language_model", None), PreTrainedModel):
        own = inside.get_output_embeddings()
    return own


def head_of(model: PreTrainedModel) -> nn.Linear:
    """The head's projection onto the vocabulary.

    Raises:
        ModelError: it is no linear layer.
    """
    layer = projection(model)
    if not isinstance(layer, nn.Linear):
        raise ModelError(
            f"Expected {type(model).__name__} to end in a linear head, got {type(layer).__name__}: its work cannot be "
            f"counted. {WORKING}"
        )
    return layer


def check_final(hidden: Tensor) -> None:
    """Refuse final hidden states ``[..., H]`` that give no logits; beside the head's own work it costs nothing.

    Raises:
        NotFinite: NaN or infinity among them.
    """
    if not finite(hidden):
        raise NotFinite.of("final hidden states", hidden)


class _Decoded(MoeModelOutputWithPast):
    """A decoder's output of which only the hidden states are known; a head needs no more."""

    def __getattr__(self, name: str) -> None:
        return None


def head(model: PreTrainedModel, hidden: Tensor, among: Tensor | None = None) -> Tensor:
    """Logits ``[B, T, V]`` of final hidden states ``[B, T, H]``, or ``[B, T, n]`` of n vocabulary entries only.

    Args:
        model: the model whose head it is.
        hidden: ``[B, T, H]`` final hidden states.
        among: ``[n]`` entries, only for a model that ``can_choose``; None: all.

    Raises:
        NotFinite: hidden states or logits that are NaN or infinite.
    """
    check_final(hidden)
    with ExitStack() as stack:
        stack.enter_context(forward_as(decoder_of(model), lambda *args, **kwargs: _Decoded(last_hidden_state=hidden)))
        if among is not None:
            stack.enter_context(forward_as(projection(model), _rows(model, among)))
        some = torch.zeros(hidden.shape[:2], dtype=torch.long, device=model.device)  # hidden states come in their place
        logits: Tensor = model(input_ids=some, use_cache=False).logits
    if not finite(logits):
        raise NotFinite.of("logits", logits)
    return logits


def _rows(model: PreTrainedModel, among: Tensor) -> Callable[[Tensor], Tensor]:
    """The head's projection onto some entries."""
    layer = head_of(model)
    place = among.to(layer.weight.device)
    weight, bias = layer.weight[place], None if layer.bias is None else layer.bias[place]
    return lambda x: nn.functional.linear(x, weight, bias)


@torch.no_grad()
def check_head(model: PreTrainedModel) -> None:
    """Refuse a model whose head, run alone on the decoder's output, does not give the model's logits.

    Raises:
        ModelError: with the difference, or the model's own error.
    """
    tokens = torch.tensor([[1, 2]]).to(model.device)
    expected = model(input_ids=tokens, use_cache=False).logits
    try:
        found = head(model, decoder_of(model)(input_ids=tokens, use_cache=False).last_hidden_state)
        differs = "" if torch.allclose(found, expected, rtol=1e-2, atol=1e-2) else "other logits"
    except NotFinite:
        raise
    except (RuntimeError, TypeError, ValueError, IndexError) as error:
        differs = f"{type(error).__name__}: {error}"
    if differs:
        raise ModelError(
            f"The language-model head of {type(model).__name__} cannot be run alone on final hidden states "
            f"({differs}): tails cannot be scored. {WORKING}"
        )


@torch.no_grad()
def can_choose(model: PreTrainedModel) -> bool:
    """Whether logits of some entries alone are as among all: not if the head is quantized, offloaded, or cut short."""
    layer = projection(model)
    if type(layer) is not nn.Linear or layer.weight.device.type == "meta":
        return False
    size = model.config.get_text_config().hidden_size
    hidden = torch.linspace(-1, 1, size, dtype=model.dtype, device=layer.weight.device).view(1, 1, -1)
    among = torch.tensor([1, 3, 5])
    alone, full = head(model, hidden, among).float(), head(model, hidden).float()
    return alone.shape[-1] == 3 and bool(torch.allclose(alone, full[..., among.to(full.device)], rtol=1e-2, atol=1e-3))


def likelihoods(logits: Tensor, at: Tensor, scored: Tensor) -> Tensor:
    """Log-likelihood ``[M]`` of ``scored [M]`` under rows ``at [M]`` of ``logits [U, V]``: float32, on the CPU."""
    logits = logits.float()
    at, scored = at.to(logits.device), scored.to(logits.device)
    return (logits[at, scored] - logits.logsumexp(-1)[at]).cpu()


@dataclass(frozen=True, eq=False)
class Tangent:
    """The head's normalizer of U tokens as a plane: the log of the sum that a likelihood is divided by, linear in the
    hidden state.

    The normalizer takes the head over the whole vocabulary, which costs more than the layers that ω acts in where
    options have several tokens. Small steps move a tail's final hidden states little, and around those of the model's
    own pathway the plane is computed once (changes of ω by it were measured: a cosine of 0.999 to those by the whole
    head). The logits of scored tokens themselves stay exact.

    Attributes:
        hidden: ``[U, H]`` final hidden states along the model's own pathway.
        normalizer: ``[U]`` log Σ exp of their logits.
        slope: ``[U, H]`` its gradient there (of a linear head: its rows, averaged by probability).
    """

    hidden: Tensor
    normalizer: Tensor
    slope: Tensor

    def at(self, hidden: Tensor) -> Tensor:
        """The plane ``[U]`` at other hidden states ``[U, H]``; below a linear head's normalizer, which is convex."""
        return self.normalizer + ((hidden - self.hidden).float() * self.slope.float()).sum(-1)


@torch.enable_grad()
def plane(model: PreTrainedModel, hidden: Tensor) -> tuple[Tensor, Tensor]:
    """Normalizer ``[U]`` and its gradient ``[U, H]`` at ``hidden [U, H]``."""
    place = hidden.detach().requires_grad_()
    normalizer = head(model, place[None])[0].float().logsumexp(-1)
    (slope,) = torch.autograd.grad(normalizer.sum(), place)
    return normalizer.detach(), slope
