"""Score whole prompts in one piece, differentiable in whatever the model is made of.

Tails (``tail.py``) serve what changes the routing of a prompt's last token; what changes the model itself changes every
token. Options share their prompt all the same, where a model takes trees (``packing.py``).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor
from torch.nn.functional import pad
from transformers import DynamicCache, PreTrainedModel

from .._printed import in_brief
from ..errors import SettingError
from ..ledger import Entry
from ..types import Prompt
from .flops import Flops, measure
from .grouping import grouped, waiting
from .head import head, likelihoods
from .modules import answering, hook_after, hooked
from .packing import Packed, layout_for, pack
from .sites import Site, decoder_layers, decoder_of
from .states import TokenBatch, laid_out, widened
from .tail import ModelInputs, context, entering, from_layer, skipped


class PromptPrefix:
    """What every prompt begins with: nothing, where a subclass says nothing else."""

    def lengths(self, prompt: Prompt) -> tuple[int, int]:
        """How many tokens pass the layers before the prompt's own; and how many are seen as keys and values alone.

        Raises:
            DataError: there is no room for them.
        """
        return 0, 0

    def read(self, model: PreTrainedModel, tokens: Tensor) -> tuple[dict[str, Tensor], DynamicCache | None]:
        """What the decoder is called with for ``tokens [N, S]``, which begin with a 0 for each that passes the layers;
        and the cache of those that are seen, for N sequences."""
        return {"input_ids": tokens}, None


NO_PREFIX = PromptPrefix()


@dataclass(frozen=True, eq=False)
class WholePrompts:
    """Runs whole prompts, from ``RoutedModel.whole_prompts``; hold the model's lock around it (``answering``).

    Attributes:
        model: whose they are.
        flops: its matrix sizes.
        start: the decoder layer that runs begin with. What enters there is computed once a prompt, and cached: nothing
            below may change while it is.
        sites: its MoE layers.
    """

    model: PreTrainedModel
    flops: Flops
    start: int = 0
    sites: tuple[Site, ...] = ()
    _entering: dict[Prompt, Tensor] = field(default_factory=dict)
    __repr__ = in_brief

    @classmethod
    def of_dense(cls, model: PreTrainedModel) -> WholePrompts:
        """Of a model without experts."""
        return cls(model, measure(model, ()))

    def scores(self, prompts: Sequence[Prompt], opening: PromptPrefix = NO_PREFIX) -> Tensor:
        """Normalized log-likelihood of each choice ``[B, C]``, -inf where a prompt has fewer.

        Raises:
            SettingError: a prompt has images.
        """
        return self._run(prompts, (), opening)[0]

    def routed_scores(
        self, prompts: Sequence[Prompt], layers: Sequence[int], opening: PromptPrefix = NO_PREFIX
    ) -> tuple[Tensor, Tensor]:
        """``scores``; and of the same run what the routers of n decoder layers, in the model's order, make of every
        expert at each prompt's last token ``[B, n, E]``, rows summing to one; differentiable, too.

        Raises:
            SettingError: as ``scores``; or a layer has no router that runs, or none is named.
        """
        known = {site.layer: site for site in self.sites if site.layer >= self.start}
        if not layers or {*layers} - known.keys():
            raise SettingError(f"Expected layers with routers among {[*known]}, got {[*layers]}.")
        scores, routers = self._run(prompts, [site for layer, site in known.items() if layer in layers], opening)
        return scores, torch.stack(routers)

    def _run(
        self, prompts: Sequence[Prompt], sites: Sequence[Site], opening: PromptPrefix
    ) -> tuple[Tensor, list[Tensor]]:
        """Scores ``[B, C]``; of each prompt ``[n, E]`` what the sites' routers make of its last token."""
        if any(prompt.extra for prompt in prompts):
            raise SettingError(
                "Expected questions of text alone where the model itself is changed or trained, got some with images; "
                "take an answerer that changes routing."
            )
        packed = [self._packed(prompt, opening) for prompt in prompts]
        width = max(len(prompt.options) for prompt in prompts)
        scores: dict[int, Tensor] = {}
        routers: dict[int, Tensor] = {}
        for group in grouped([waiting(i, part) for i, part in enumerate(packed)]):
            parts = [packed[i] for i in group]
            batch = laid_out(parts, [prompts[i].lengths for i in group])
            with answering(self.model), _reading(sites, batch) as read:
                hidden = self._hidden([prompts[i] for i in group], parts, batch, opening)
                logits = head(self.model, batch.final(hidden)[None])[0]
            rows = batch.choice_scores(likelihoods(logits, batch.at, batch.scored))
            scores.update(zip(group, pad(rows, (0, width - rows.shape[1]), value=-torch.inf), strict=True))
            if sites:
                routers.update(zip(group, torch.stack([read[site.layer] for site in sites], 1), strict=True))
        return torch.stack([scores[i] for i in range(len(prompts))]), [routers[i] for i in sorted(routers)]

    def work(self, prompt: Prompt, opening: PromptPrefix = NO_PREFIX, trained: int | None = None) -> Entry:
        """What scoring a prompt takes, without what is computed once; ``trained`` as ``Flops.whole`` has it."""
        return self.flops.whole(self._packed(prompt, opening), self.start, trained)

    def work_once(self, prompt: Prompt) -> Entry:
        """What is computed once a prompt."""
        return self.flops.before(self._packed(prompt, NO_PREFIX), self.start)

    def _packed(self, prompt: Prompt, opening: PromptPrefix) -> Packed:
        """A prompt laid out with what it begins with."""
        passing, seen = opening.lengths(prompt)
        longer = replace(prompt, ids=(0,) * passing + prompt.ids)
        packed = pack(longer, layout_for(self.model, prompt), whole=True)
        return replace(packed, past=seen, positions=packed.positions + seen)

    def _hidden(
        self, prompts: Sequence[Prompt], packed: Sequence[Packed], batch: TokenBatch, opening: PromptPrefix
    ) -> Tensor:
        """Final hidden states ``[N, S, H]``."""
        tokens, cache = opening.read(self.model, batch.tokens.to(self.model.device))
        inputs: ModelInputs = {**tokens, **context(self.model, packed, batch, cache)}
        with ExitStack() as stack:
            if self.start > 0:
                known = self._entered(prompts, packed, inputs)
                stack.enter_context(from_layer(decoder_layers(self.model), self.start, known))
            hidden: Tensor = decoder_of(self.model)(**inputs).last_hidden_state
        return hidden

    @torch.no_grad()
    def _entered(self, prompts: Sequence[Prompt], packed: Sequence[Packed], inputs: ModelInputs) -> Tensor:
        """``[N, S, H]`` what enters decoder layer ``start``, cached from the first time on."""
        if any(prompt not in self._entering for prompt in prompts):
            layers = list(decoder_layers(self.model))
            with skipped(layers[self.start :]), entering([layers[self.start]]) as entries:
                decoder_of(self.model)(**inputs)
            parts = entries[0].split([len(p.tokens) for p in packed])
            for prompt, part, p in zip(prompts, parts, packed, strict=True):
                self._entering[prompt] = part[:, : p.tokens.shape[1]].clone()
        return widened([self._entering[prompt] for prompt in prompts], max(p.tokens.shape[1] for p in packed))


@contextmanager
def _reading(sites: Sequence[Site], batch: TokenBatch) -> Iterator[dict[int, Tensor]]:
    """Inside the block, collect what the sites' routers make of the prompts' last tokens ``[B, E]``, by layer: in the
    last of their calls that has the batch's tokens, as what prompts begin with may be run before."""
    owner = batch.owner.tolist()
    first = torch.tensor([owner.index(b) for b in range(len(batch.lengths))])
    places, found = first * batch.tokens.shape[1] + batch.last[first], dict[int, Tensor]()

    def hook(site: Site) -> Callable[..., None]:
        def read(module: object, args: object, output: Tensor | tuple[Tensor, ...]) -> None:
            if len(seen := site.probabilities(output)) == batch.tokens.numel():
                found[site.layer] = seen[places].cpu()

        return read

    with hooked(hook_after(site.router, hook(site)) for site in sites):
        yield found
