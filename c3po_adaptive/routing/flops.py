"""FLOPs of what is really run, counted from the model's own weights. A multiply-add is two.

Matrix products are counted, as ``torch.utils.flop_counter`` does; norms, softmax and activations are not.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from torch import nn
from transformers import PreTrainedModel

from .packing import Packed
from .sites import Site, decoder_layers
from .states import State


@dataclass(frozen=True)
class Flops:
    """Matrix sizes of a model.

    Attributes:
        linear: per decoder layer, weights that every token meets outside routed experts (router included).
        expert: per decoder layer, weights of one routed expert (0 in a dense layer).
        attention: query heads times head dimension. head: weights of the language-model head.
        top_k: experts a token uses. sites: decoder layer of each MoE layer.
    """

    linear: tuple[int, ...]
    expert: tuple[int, ...]
    attention: int
    head: int
    top_k: int
    sites: tuple[int, ...]

    def forward(self, tokens: float, keys: float, start: int = 0, mixed: float | None = None) -> float:
        """Decoder layers from ``start`` on, for tokens that each see ``keys`` keys and mix ``mixed`` experts."""
        experts = self.top_k if mixed is None else mixed
        weights = sum(self.linear[start:]) + experts * sum(self.expert[start:])
        layers = len(self.linear) - start
        return 2 * tokens * weights + 4 * tokens * keys * self.attention * layers

    def logits(self, rows: float) -> float:
        """The language-model head on so many rows."""
        return 2 * rows * self.head

    def prefill(self, packed: Packed) -> float:
        """What comes before the tail, and the tail; the head on the tail's rows that predict."""
        before, tail = self.forward(packed.past, packed.past), self.forward(packed.rows, self._keys(packed))
        return before + tail + self.logits(len(packed.row.unique()))

    @staticmethod
    def _keys(packed: Packed) -> int:
        return packed.past + packed.tokens.shape[1]

    def tail_of(self, state: State, site: int, mixed: Mapping[int, float], backward: bool) -> float:
        """The tail of one prefilled question, without padding; see ``tail``."""
        packed = state.packed
        mixed = {layer: n for layer, n in mixed.items() if layer >= site}
        return self.tail(packed.rows, self._keys(packed), len(packed.row.unique()), site, mixed, backward)

    def tail(
        self, rows: float, keys: float, predicting: float, site: int, mixed: Mapping[int, float], backward: bool
    ) -> float:
        """A tail of so many rows from MoE layer number ``site`` on; with the way back to ω if ``backward``.

        The way back multiplies by each weight once more (parameters are frozen) and by each attention product twice;
        it ends at the experts of the first layer, whose input ω does not change.

        Args:
            mixed: for each MoE layer number, how many (row, expert) pairs are run.
        """
        start = self.sites[site]
        experts = {self.sites[i]: 2 * n * self.expert[self.sites[i]] for i, n in mixed.items()}
        there = 2 * rows * sum(self.linear[start:]) + sum(experts.values()) + self.logits(predicting)
        layers = len(self.linear) - start
        there += 4 * rows * keys * self.attention * layers
        if not backward:
            return there
        above = 2 * rows * sum(self.linear[start + 1 :]) + sum(v for i, v in experts.items() if i > start)
        return there + above + 8 * rows * keys * self.attention * (layers - 1) + self.logits(predicting)


def measure(model: PreTrainedModel, sites: Sequence[Site]) -> Flops:
    """Read the sizes off a model."""
    layers = decoder_layers(model)
    experts = {id(p) for s in sites for p in s.experts.parameters()}
    per_expert = {s.layer: sum(p.numel() for p in _joined(s)) // s.mixable for s in sites}
    head = model.get_output_embeddings()
    assert isinstance(head, nn.Linear)
    return Flops(
        tuple(sum(_matrices(layer, experts)) for layer in layers),
        tuple(per_expert.get(i, 0) for i in range(len(layers))),
        _attention_width(model, layers),
        head.weight.numel(),
        sites[0].top_k,
        tuple(s.layer for s in sites),
    )


def _joined(site: Site) -> Iterator[nn.Parameter]:
    """Weights of all experts in one: ``[E, F, H]``, or ``[E * F, H]`` (dbrx). Biases are ``[E, F]``."""
    for p in site.experts.parameters():
        if p.ndim == 3 or (p.ndim == 2 and p.shape[0] > site.n_experts):
            yield p


def _matrices(layer: nn.Module, experts: set[int]) -> Iterator[int]:
    """Sizes of all matrices outside routed experts; a quantised one's as if it were not."""
    for module in layer.modules():
        if isinstance(module, nn.Linear):
            if id(module.weight) not in experts:
                yield module.in_features * module.out_features
        else:
            yield from (p.numel() for p in module.parameters(recurse=False) if p.ndim == 2 and id(p) not in experts)


def _attention_width(model: PreTrainedModel, layers: nn.ModuleList) -> int:
    """Query heads times head dimension: what enters an attention's output projection."""
    for name, module in layers.named_modules():
        if isinstance(module, nn.Linear) and name.endswith("o_proj"):
            return module.in_features
    return int(model.config.get_text_config().hidden_size)
