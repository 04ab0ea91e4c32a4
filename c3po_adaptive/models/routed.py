"""A Mixture-of-Experts model, run along its own or another pathway."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import wraps
from typing import Any, TypeVar, cast

import torch
from torch import Tensor
from transformers.modeling_outputs import CausalLMOutput

from ..errors import SettingError
from ..routing.flops import measure
from ..routing.generation import Written, decoded_along
from ..routing.grouping import grouped, waiting
from ..routing.head import head, read_for_generation
from ..routing.intercept import recorded
from ..routing.likelihoods import (
    Likelihoods,
    Ruled,
    along,
    finals_along,
    first_changed,
    layout_to_score,
    likelihoods_of,
    ruled_tails,
)
from ..routing.packing import Layout, padded
from ..routing.prefill import in_batches, prefill, prefill_finals
from ..routing.router_rules import RoutingRule, RuleRun
from ..routing.scores import TailScores
from ..routing.states import State, collate, normalized
from ..routing.tail import tail_hidden
from ..routing.whole_prompts import WholePrompts
from ..tasks.formats import Format
from ..tasks.question_files import Asked, as_questions
from ..tasks.texts import listed
from ..types import Pathway, PathwayKind, Prompt, Question, Scope
from .held import HeldModel
from .provenance import check_origin, one_batch, origin_of, own_pathway
from .writing import first_lines, with_length

Method = TypeVar("Method", bound=Callable[..., Any])
BATCH = 32  # prompts side by side


def _alone(method: Method) -> Method:
    """Inside ``answering``: while a model is run, hooks of one routing are in it."""

    @wraps(method)
    def run(self: RoutedModel, *args: Any, **kwargs: Any) -> Any:
        with self.answering():
            return method(self, *args, **kwargs)

    return cast(Method, run)


class RoutedModel(HeldModel):
    """A frozen MoE model whose routing can be read and replaced.

    Threads may share one: what runs the model waits for its turn (``lock``). A thread that calls ``.model`` itself
    waits for nobody, and gets the model's own routing. What trains the model changes it for all of them, so hold
    ``lock`` around a call that must not meet that.

    It may be trained between answers. All that answers does so in evaluation mode, and puts each module's own mode
    back; what was cached is forgotten once weights, modules, adapters or routers' settings were changed. Which
    changes are seen, and which are not, a ``Snapshot`` says; after one that is not, ``forget``.

    Attributes:
        model: the transformers model.
        tokenizer: its tokenizer.
        name: how it was asked for.
        sites: its MoE layers.
        flops: its matrix sizes.
        letters_alone: its head can be run for some entries only.
        snapshot: what it computed with when it last answered; another one, once it was changed.
        processor: of transformers, which makes images ready for it; None: it reads text alone.
        cache_bytes: budget for cached prefills: by default a quarter of the memory that is free now,
            or on other devices than the CPU a GiB. Beyond it any may go, by chance: of what is asked for in turns, as
            by the arms of a study, as many are found again as there is room for.
        reads_no_images: why, where it has no processor.
        fault: that was planted in it, if that is known; a strategy sees it only if it says that it needs that.
    """

    def whole_prompts(self, start: int = 0) -> WholePrompts:
        """Runs whole prompts from decoder layer ``start`` on, at the price of what stands in its places now."""
        flops = replace(measure(self.model, self.sites), attention=self.flops.attention)
        return WholePrompts(self.model, flops, start, tuple(self.sites))

    @_alone
    def prefill(
        self, prompts: Sequence[Prompt], *, scope: Scope = "answer", batch_size: int = BATCH, keep: bool = True
    ) -> list[State]:
        """Run prompts along the model's own pathway, or take them from the cache; ``keep`` the new ones there.

        Args:
            prompts: what is run.
            scope: of the pathways that they will be run along: one that acts on every token starts from all of them.
            batch_size: prompts that are run together.
            keep: the states, for the next call.
        """
        whole = scope == "all"
        known = {p: self._states[p, whole] for p in prompts if (p, whole) in self._states}
        new = list({p: None for p in prompts if p not in known})

        def run(part: Sequence[Prompt], layout: Layout, numbers: object) -> list[State]:
            return prefill(self.model, self.sites, part, self.flops, layout, whole=whole)

        known.update(zip(new, in_batches(self.model, new, batch_size, run), strict=True))
        for prompt in new:
            if keep and known[prompt].nbytes <= self._states.maxsize:
                self._states[prompt, whole] = known[prompt]
        return [known[p] for p in prompts]

    # -- along a rule ----------------------------------------------------------------------------------------------

    @_alone
    def ruled(
        self, prompts: Sequence[Prompt], rule: RoutingRule | None = None, *, start: int | None = None
    ) -> list[Ruled]:
        """Score the options of each prompt along a rule's routing; None: along the model's own.

        Args:
            prompts: B of them; the rule knows them by their numbers, 0 … B-1.
            rule: asked at each MoE layer, for all tokens of some prompts together.
            start: None: the rule acts at every token. Otherwise on the prompt's last token and the options' alone,
                from that MoE layer (0 … L-1) on, behind the prompt as the model itself ran it (whose work is not
                counted again); the scores are then differentiable in what the rule makes its weights from.

        Raises:
            SettingError: ``start`` is no MoE layer.
            ModelError: the rule asks for what this family's router does not have.
        """
        if start is not None and not 0 <= start < len(self.sites):
            raise SettingError(f"Expected start to be a MoE layer, 0 … {len(self.sites) - 1}, got {start}.")
        if rule is None:
            return [Ruled.of(state) for state in self.prefill(prompts)]
        if start is None:
            return [Ruled.of(state) for state in self.prefill_along(prompts, rule)]
        return self.ruled_from(self.prefill(prompts), rule, start)

    @_alone
    def ruled_from(self, states: Sequence[State], rule: RoutingRule, start: int = 0) -> list[Ruled]:
        """Tails of prefilled prompts along a rule from MoE layer ``start`` on, as ``ruled`` with ``start``."""
        run = RuleRun(self.sites, rule, torch.arange(len(states)), start)
        return ruled_tails(self.model, self.sites, self.flops, states, run)

    @_alone
    @torch.no_grad()
    def pathways_behind(self, states: Sequence[State], kind: PathwayKind, start: int = 0) -> Tensor:
        """``[B, L, E]`` its pathways at the token where ω acts, behind prompts as another model read them that differs
        from it in some numbers alone; before MoE layer ``start`` as they were there."""
        found = own_pathway(states, self.layers, "last", kind).own
        for group in grouped([waiting(i, state.packed) for i, state in enumerate(states)]):
            batch = collate([states[i] for i in group])
            first = [batch.owner.tolist().index(b) for b in range(len(group))]  # of a sample's sequences, if several
            rows = torch.tensor(first) * batch.tokens.shape[1] + batch.acting[first]
            with recorded(self.sites[start:], rows) as recording:
                tail_hidden(self.model, self.sites, batch, start)
            weights, router, _ = recording.stacked()
            found[group, start:] = (weights if kind == "weights" else router).to(found)
        return found

    @_alone
    @torch.no_grad()
    def logits(self, answered: Ruled) -> Tensor:
        """Logits ``[M, V]`` that predict each scored token, in float32."""
        return head(self.model, answered.final[None])[0].float()[answered.at.to(answered.final.device)]

    @_alone
    def prefill_along(self, prompts: Sequence[Prompt], rule: RoutingRule, batch_size: int = BATCH) -> list[State]:
        """States along a rule at every token; they are not cached, for another rule makes others of the same prompts.

        A rule that returns None everywhere only looks on: then the states are those of ``prefill``.
        """

        def run(part: Sequence[Prompt], layout: Layout, numbers: Sequence[int]) -> list[State]:
            run_along = RuleRun(self.sites, rule, torch.tensor(numbers))
            return prefill(self.model, self.sites, part, self.flops, layout, run_along)

        return in_batches(self.model, prompts, batch_size, run)

    # -- what users call -------------------------------------------------------------------------------------------

    @_alone
    def pathway(self, text: str | Sequence[str], *, scope: Scope = "answer", kind: PathwayKind = "router") -> Pathway:
        """The model's own pathway at the last token of a text ``[L, E]``, or of many ``[B, L, E]``."""
        states = self.prefill([self.encode_text(t) for t in listed(text)])
        pathway = own_pathway(states, self.layers, scope, kind)
        return pathway[0] if isinstance(text, str) else pathway

    @_alone
    def forward(
        self, text: str | Sequence[str], routing: Pathway | Sequence[Pathway] | RoutingRule | None = None
    ) -> CausalLMOutput:
        """Logits ``[B, T, V]`` of raw texts (short ones padded on the left with zeros).

        The last token is routed by ω, and every other by Δω if its scope is ``all``; or every token by a rule.

        Raises:
            ShapeError: a routing of another model or another number of samples.
        """
        prompts = [self.encode_text(t) for t in listed(text)]
        pathway = None if callable(routing) else one_batch(self, routing, len(prompts))
        states = self.prefill_along(prompts, routing) if callable(routing) else self._prefilled(prompts, pathway)
        with torch.no_grad():
            logits = [head(self.model, s.hidden[None])[0] for s in states if s.hidden is not None]
            if pathway is not None:
                for i in pathway.changed().any(-1).nonzero().squeeze(1).tolist():
                    count = len(logits[i]) if pathway.scope == "all" else 1
                    logits[i] = torch.cat([logits[i][:-count], self._tail(states[i], pathway[[i]], count)])
        width = max(map(len, logits))
        return CausalLMOutput(
            logits=torch.stack([torch.nn.functional.pad(x, (0, 0, width - len(x), 0)) for x in logits])
        )

    @_alone
    def generate(
        self,
        text: str | Sequence[str],
        routing: Pathway | Sequence[Pathway] | RoutingRule | None = None,
        **options: Any,
    ) -> str | list[str]:
        """The text that continues each text; ``options`` go to transformers' ``generate`` (``max_new_tokens=…``).

        ω replaces the last prompt token's routing; with scope ``answer`` every new token takes Δω on its own, with
        ``all`` every other token of the prompt, too. A rule acts at every token.

        Raises:
            SettingError: a ``rule``, which stands in ``routing``.
            DataError: a text, with as many tokens more as are asked for, that is longer than the model's context.
        """
        if "rule" in options:
            raise SettingError(f"Expected a rule as routing; say routing=rule_named({options['rule']!r}).")
        texts = listed(text)
        for t in texts:
            self.encode_text(t)  # refuses what cannot be read
        pathway = routing if callable(routing) else one_batch(self, routing, len(texts))
        inputs, seen = padded([self.tokenizer(t)["input_ids"] for t in texts], self.pad)
        inputs, seen = inputs.to(self.model.device), seen.long().to(self.model.device)
        options = with_length(self.model, options, seen)
        options.setdefault("pad_token_id", self.pad)
        with self.decoding(pathway, seen):
            output = cast(Any, self.model).generate(inputs, attention_mask=seen, **options)
        new = output[:, inputs.shape[1] :]
        decoded: list[str] = self.tokenizer.batch_decode(new, skip_special_tokens=True)
        return decoded[0] if isinstance(text, str) else decoded

    @contextmanager
    def decoding(self, routing: Pathway | RoutingRule | None, seen: Tensor) -> Iterator[None]:
        """Inside the block transformers' own ``generate`` follows a routing, as ``answering`` lets it.

        Args:
            routing: ``[B, L, E]`` of B prompts, or a rule at every token; None: the model's own.
            seen: ``[B, T]`` the prompts' attention mask, padding on the left.
        """
        if isinstance(routing, Pathway):
            self.check(routing)
        with self.answering(), read_for_generation(self.model), decoded_along(self.sites, routing, seen):
            yield

    @_alone
    @torch.no_grad()
    def written(self, prompts: Sequence[Prompt], routing: Pathway | RoutingRule | None = None) -> list[Written]:
        """What the model writes after each prompt, greedily: the first line that says something, of at most ``SPARE``
        tokens more than the prompt's longest option.

        Args:
            prompts: B of them, which are run together.
            routing: ``[B, L, E]``, or a rule at every token; None: the model's own. What it writes along its own is
                cached, and taken for every pathway that changes nothing.

        Raises:
            DataError: a prompt fills the model's context.
            SettingError: several prompts with images for a rule.
        """
        if callable(routing):
            return self._write(prompts, routing) if prompts else []
        found: dict[int, Written] = {}
        if routing is not None and (moved := routing.changed().any(-1).nonzero().squeeze(1).tolist()):
            found = dict(zip(moved, self._write([prompts[i] for i in moved], routing[moved]), strict=True))
        own = {i: prompt for i, prompt in enumerate(prompts) if i not in found}
        known = {prompt: self._written[prompt] for prompt in own.values() if prompt in self._written}
        if new := list(dict.fromkeys(prompt for prompt in own.values() if prompt not in known)):
            known.update(zip(new, self._write(new, None), strict=True))
            self._written.update((prompt, known[prompt]) for prompt in new)  # which may drop others of this batch
        found |= {i: known[prompt] for i, prompt in own.items()}
        return [found[i] for i in range(len(prompts))]

    def _write(self, prompts: Sequence[Prompt], routing: Pathway | RoutingRule | None) -> list[Written]:
        if len(prompts) > 1 and any(prompt.extra for prompt in prompts):  # pictures are identified by their prompt
            if callable(routing):
                raise SettingError("Expected one prompt at a time for a rule and images, got several; give one.")
            return [
                self._write([prompt], None if routing is None else routing[[i]])[0] for i, prompt in enumerate(prompts)
            ]
        inputs = padded([prompt.ids for prompt in prompts], self.pad)
        with self.decoding(routing, inputs[1]):
            line = first_lines(self, prompts, inputs)
        return [
            Written(text, self.plain_work(Prompt(prompt.ids, (tuple(tokens),), (1.0,), extra=prompt.extra)))
            for prompt, text, tokens in zip(prompts, line.lines, line.tokens, strict=True)
        ]

    @_alone
    def score_choices(
        self,
        questions: Asked | Sequence[Asked],
        choices: Sequence[str] | Sequence[Sequence[str]] | None = None,
        routing: Pathway | Sequence[Pathway] | RoutingRule | None = None,
        *,
        format: str | Format = "cloze",
    ) -> Tensor | list[Tensor]:
        """Normalized log-likelihood of each choice ``[C]``; a list of them for many questions.

        Args:
            questions: texts with their ``choices`` beside them, or ``Question`` records, or rows, that hold them.
            choices: of one question, or of each; None for records.
            routing: one pathway for each question, or a rule at every token; None: the model's own.
            format: how it is asked, a name or a ``Format``.
        """
        prompts = [self.encode(q, format) for q in as_questions(questions, choices)]
        if callable(routing):
            scores = [answered.scores() for answered in self.ruled(prompts, routing)]
        else:
            pathway = one_batch(self, routing, len(prompts))
            scores = self.choice_scores(self._prefilled(prompts, pathway), pathway)
        return scores[0] if isinstance(questions, str | Question | Mapping) else scores

    def with_origin(self, pathway: Pathway, text: str | Sequence[str], *, keep_text: bool = False) -> Pathway:
        """The same pathway, which also says that it is this model's, and of which text: then it can be saved.

        Args:
            pathway: ``[L, E]`` of one text, or ``[B, L, E]`` of as many texts.
            text: what it was made for: a prompt, or the question.
            keep_text: keep the text itself, too, not its hash alone.

        Raises:
            DataError: it says already that it is of another model.
            ShapeError: it does not fit this model, or the number of texts.
        """
        texts = listed(text)
        one_batch(self, pathway, len(texts))
        return replace(pathway, origin=origin_of(self, texts, keep_text=keep_text))

    def check(self, pathway: Pathway, text: str | Sequence[str] | None = None) -> None:
        """Refuse a pathway that says it is of another model, or of another text; done whenever one is used.

        Args:
            pathway: one that says nothing, as it was never saved, is taken.
            text: if given, the pathway has to be of it.

        Raises:
            DataError: it is of another one, or does not say of which text it is.
        """
        check_origin(self, pathway, text)

    # -- what the remixer calls ------------------------------------------------------------------------------------

    @_alone
    @torch.no_grad()
    def choice_scores(self, states: Sequence[State], pathway: Pathway | None = None) -> list[Tensor]:
        """Scores of each state's choices ``[C]``. A sample whose ω is its own keeps the scores of its prefill."""
        if pathway is None:
            return [normalized(s, s.token_scores) for s in states]
        scores = self.tail_scores(states, pathway)(pathway.router)
        return [row[: len(s.prompt.options)] for s, row in zip(states, scores, strict=True)]

    @_alone
    @torch.no_grad()
    def next_token(self, states: Sequence[State], pathway: Pathway) -> Tensor:
        """Logits ``[B, V]`` after each state's prompt, along its pathway ``[B, L, E]``."""
        self.check(pathway)
        found = []
        for i, state in enumerate(states):
            found.append(self._tail(state, pathway[[i]], 1)[0])
        return torch.stack(found)

    @_alone
    def likelihoods(
        self, prompts: Sequence[Prompt], rule: RoutingRule | None = None, *, batch_size: int = BATCH
    ) -> list[Likelihoods]:
        """Log-likelihood of each option as a whole, from one pass that keeps nothing.

        Args:
            prompts: B of them.
            rule: asked at each MoE layer, at every token; None: along the model's own pathway.
            batch_size: prompts that are run together.
        """

        def run(part: Sequence[Prompt], layout: Layout, numbers: Sequence[int]) -> list[Likelihoods]:
            ruling = None if rule is None else RuleRun(self.sites, rule, torch.tensor(numbers))
            return likelihoods_of(self.model, part, prefill_finals(self.model, part, layout, ruling))

        return in_batches(self.model, prompts, batch_size, run, layout_to_score)

    @_alone
    def likelihoods_along(self, states: Sequence[State], pathway: Pathway) -> list[Likelihoods]:
        """The same of prefilled prompts along their pathways ``[B, L, E]``."""
        self.check(pathway)
        prompts = [state.prompt for state in states]
        return likelihoods_of(self.model, prompts, finals_along(self.model, self.sites, states, pathway))

    def tail_scores(self, states: Sequence[State], pathway: Pathway) -> TailScores:
        """What scores each state's choices along its pathway, and counts what that takes."""
        self.check(pathway)
        each, changed = torch.arange(len(states)), pathway.changed()
        return TailScores(
            self.model,
            self.sites,
            self.flops,
            states,
            each,
            pathway.own,
            changed,
            scope=pathway.scope,
            top_k=pathway.top_k,
            gradient=None if pathway.gate is None else "straight-through",
        )

    def _tail(self, state: State, pathway: Pathway, count: int) -> Tensor:
        """Logits ``[T, V]`` after the last T (``count``) tokens of a prompt, all in its tail, along its pathway."""
        batch = collate([state])
        with along(self.sites, batch, pathway):
            hidden = tail_hidden(self.model, self.sites, batch, first_changed(pathway.changed()))
        end = int(batch.last[0]) + 1
        return head(self.model, hidden[:1, end - count : end])[0]

    def _prefilled(self, prompts: Sequence[Prompt], pathway: Pathway | None) -> list[State]:
        """To be run along a pathway."""
        return self.prefill(prompts, scope="answer" if pathway is None else pathway.scope)
