"""FLOPs, counted from the model's own weights: of tokens without padding, and of the experts that they use.

A multiply-add is two. Where all experts are run at once (``dense_experts.py``), those not used count no more than
padding.

Matrix products are counted, as ``torch.utils.flop_counter`` does; norms, softmax and activations are not.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from torch import nn
from transformers import PreTrainedModel

from ..ledger import Entry, Work
from .head import head_of
from .packing import Packed
from .sites import Site, decoder_layers


@dataclass(frozen=True)
class Flops:
    """Matrix sizes of a model.

    Attributes:
        linear: per decoder layer, weights that every token meets outside routed experts and router.
        router: per decoder layer, weights of the router (0 in a dense layer).
        expert: per decoder layer, weights of one routed expert (0 in a dense layer).
        attention: query heads times head dimension.
        width: input width of the language-model head.
        vocabulary: output entries of the language-model head.
        top_k: experts per token.
        sites: decoder layer of each MoE layer.
    """

    linear: tuple[int, ...]
    router: tuple[int, ...]
    expert: tuple[int, ...]
    attention: int
    width: int
    vocabulary: int
    top_k: int
    sites: tuple[int, ...]

    def prefill(self, packed: Packed, mixed: Mapping[int, float] | None = None) -> Entry:
        """What comes before the tail, pictures included, and the tail; the head on the tail's rows that predict.

        Args:
            packed: the tail, and how much comes before it.
            mixed: for each MoE layer number, how many (row, expert) pairs are run; None: as many as the model runs.
        """
        pairs = None if mixed is None else {self.sites[i]: n for i, n in mixed.items()}
        before = self._layers(packed.past, packed.past, pairs=None if pairs is None else {})
        tail = self._layers(packed.rows, self._keys(packed), pairs=pairs)
        work = before + tail + self._head(packed, None)
        work += Work(linear=0.0 if packed.images is None else packed.images.flops)
        return Entry((packed.past + packed.rows) * len(self.linear), work)

    @staticmethod
    def _keys(packed: Packed) -> int:
        return packed.past + packed.tokens.shape[1]

    def _mean_keys(self, packed: Packed) -> float:
        """What the tokens of a whole prompt see, on average: in a tree those before the acting one see no option."""
        alone = 0 if packed.visible is None else packed.acting
        return (alone * (packed.past + alone) + (packed.rows - alone) * self._keys(packed)) / packed.rows

    def _head(self, packed: Packed, entries: int | None) -> Work:
        """The head on the rows that predict, for so many vocabulary entries, or all."""
        number = self.vocabulary if entries is None else entries
        return Work(head=2 * len(packed.row.unique()) * self.width * number)

    def tangent(self, packed: Packed) -> Entry:
        """The head's normalizer on the rows that predict, and its gradient."""
        return Entry(forward=self._head(packed, None), backward=self._head(packed, None))

    def tail(
        self, packed: Packed, site: int, mixed: Mapping[int, float], backward: bool, entries: int | None = None
    ) -> Entry:
        """A tail, without padding, from MoE layer number ``site`` on.

        The backward pass to ω multiplies by each weight once more (parameters are frozen) and by each attention
        product twice; it ends at the outputs of the first layer's experts, whose input ω does not change.

        Args:
            packed: the tail, and how much comes before it.
            site: number of the MoE layer that the tail begins with.
            mixed: for each MoE layer number, how many (row, expert) pairs are run.
            backward: with the backward pass.
            entries: vocabulary entries that the head is computed for; None: all.
        """
        start = self.sites[site]
        rows, keys, head = packed.rows, self._keys(packed), self._head(packed, entries)
        pairs = {self.sites[i]: n for i, n in mixed.items() if i >= site}
        there = self._layers(rows, keys, start, pairs) + head
        layers = len(self.linear) - start
        if not backward:
            return Entry(rows * layers, there)
        above = self._layers(rows, 2 * keys, start + 1, pairs)
        return Entry(rows * (2 * layers - 1), there, above + head)

    def whole(self, packed: Packed, start: int = 0, trained: int | None = None) -> Entry:
        """A whole prompt with its options, from decoder layer ``start`` on.

        The backward pass multiplies by each weight once more, by each attention product twice, and makes the gradients
        of the weights that are trained: a further product with each of them.

        Args:
            packed: all of it, without padding.
            start: the decoder layer that it begins with, what enters there being known.
            trained: with the backward pass, and so many weights that are trained of those that every token meets.
        """
        rows, keys, head = packed.rows, self._mean_keys(packed), self._head(packed, None)
        layers = len(self.linear) - start
        forward = self._layers(rows, keys, start) + head
        if trained is None:
            return Entry(rows * layers, forward)
        own = Work(linear=2.0 * rows * trained)
        return Entry(2 * rows * layers, forward, self._layers(rows, 2 * keys, start) + head + own)

    def before(self, packed: Packed, layer: int) -> Entry:
        """A whole prompt with its options, until it enters a decoder layer."""
        return Entry(packed.rows * layer, self._layers(packed.rows, self._mean_keys(packed), end=layer))

    def _layers(
        self,
        tokens: float,
        keys: float,
        start: int = 0,
        pairs: Mapping[int, float] | None = None,
        end: int | None = None,
    ) -> Work:
        """Decoder layers from ``start`` on, for tokens that see ``keys`` keys, with ``top_k`` experts or ``pairs``."""
        number = range(len(self.linear))[start:end]
        mixed = {i: tokens * self.top_k if pairs is None else pairs.get(i, 0) for i in number}
        return Work(
            attention=4 * tokens * keys * self.attention * len(number),
            linear=2 * tokens * sum(self.linear[start:end]),
            router=2 * tokens * sum(self.router[start:end]),
            experts=2 * sum(mixed[i] * self.expert[i] for i in number),
        )


def measure(model: PreTrainedModel, sites: Sequence[Site]) -> Flops:
    """Read the sizes off a model; one without ``sites`` is dense.

    Raises:
        ModelError: its head is no projection.
    """
    layers = decoder_layers(model)
    experts = {id(p) for s in sites for p in s.experts.parameters()}
    routers = {s.layer: sum(p.numel() for p in s.router.parameters() if p.ndim == 2) for s in sites}
    per_expert = {s.layer: sum(p.numel() for p in _joined(s)) // s.mixable for s in sites}
    head = head_of(model)
    return Flops(
        tuple(sum(_matrices(layer, experts)) - routers.get(i, 0) for i, layer in enumerate(layers)),
        tuple(routers.get(i, 0) for i in range(len(layers))),
        tuple(per_expert.get(i, 0) for i in range(len(layers))),
        _attention_width(model, layers),
        head.in_features,
        head.out_features,
        sites[0].top_k if sites else 0,
        tuple(s.layer for s in sites),
    )


def _joined(site: Site) -> Iterator[nn.Parameter]:
    """Weights of all experts in one: ``[E, F, H]``, or ``[E * F, H]`` (dbrx). Biases are ``[E, F]``."""
    for p in site.experts.parameters():
        if p.ndim == 3 or (p.ndim == 2 and p.shape[0] > site.n_experts):
            yield p


def _matrices(layer: nn.Module, experts: set[int]) -> Iterator[int]:
    """Sizes of all matrices outside routed experts; a quantized one's as if it were not."""
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
