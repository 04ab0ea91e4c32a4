"""``Optimizer``: C3PO in three lines."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, overload

from .errors import SettingError, checked_call
from .models.in_memory import as_routed
from .models.routed import RoutedModel
from .references.build import as_reference_set
from .references.embedding import Embedder, default_embedder
from .references.model_embedding import own_embedder
from .references.reference_set import ReferenceSet
from .registry import Registry, default_registry, in_words, said_of
from .remixing.presets import preset_named
from .remixing.remixer import Remixed, Remixer
from .report.explanation import Explanation, explain
from .routing.mixing import CORE
from .settings import RemixSettings
from .tasks.formats import Format, as_format, description
from .tasks.question_files import Asked, Row, as_questions
from .tasks.texts import check_text, listed
from .types import Answer, Pathway, Prompt, Question

if TYPE_CHECKING:
    from torch import nn
    from transformers import PreTrainedTokenizerBase

    from .kernels.base import Kernel
    from .optimizers.base import PathwayOptimizer
    from .problem import Problem
    from .retrievers.base import Retriever
    from .selectors.base import LayerSelector

    Spec = str | Mapping[str, object]


class Optimizer:
    """Re-mixes pathways of a model with strategies by name, mapping or instance.

    Args:
        model: from ``load_moe_model``; or of transformers, in PEFT's wrapper or without, which is frozen by this.
        refset: a source of labeled questions (run once, then cached): a file, a folder, a benchmark's name
            or ``demo``, see ``c3po_adaptive.tasks.questions``; a folder written by ``c3po refset build``; a
            ``ReferenceSet``; the questions themselves, or rows as a file has them; or None for strategies that use no
            neighbours.
        preset: strategies and settings that go together, by name (``PRESETS``): ``c3po``, the paper's but for how
            questions are scored (its way is ``format="letter"``), or ``nearest``, what won in ``studies/answer``.
        optimizer: in place of the preset's: a name that ``c3po plugins list`` shows, or ``{"name": …, parameters}``, or
            an instance.
        kernel, retriever, selector: in place of the preset's; named as an optimizer is.
        format: how questions are put. If given, ``optimize`` takes its texts as questions in this format (the prompt
            that ``score_choices`` sees); by default it takes them as raw text, and references are put as ``cloze``.
        settings: how pathways act and what is learned from: a mapping of values over the preset's, or a whole
            ``RemixSettings``.
        embedder: of retrieval; default: ``"all-MiniLM-L6-v2"``. ``"model"``: the model's own features, of images, too.
        registry: what names are looked up in; default: built-ins and plugins of installed packages.
        tokenizer: of a model of transformers.

    What it knows of references is of the model as it is now: once that was changed, by training, say, it refuses to
    answer with a ``DataError``, until it is made anew or the model put back (``RoutedModel.forget`` says of a change
    that is not seen).

    Raises:
        DataError: the reference file or set is broken, of another model, or holds no success.
        UnknownNameError: a preset or a strategy that does not exist.
        SettingError: a parameter or a setting that does not exist, or cannot take that value; a selector of more layers
            or experts than the model has; no references for strategies that use some.
    """

    @checked_call
    def __init__(
        self,
        model: RoutedModel | nn.Module,
        refset: str | Path | ReferenceSet | Sequence[Question | Mapping[str, object]] | None = None,
        *,
        preset: str = "c3po",
        optimizer: Spec | PathwayOptimizer | None = None,
        kernel: Spec | Kernel | None = None,
        retriever: Spec | Retriever | None = None,
        selector: Spec | LayerSelector | None = None,
        format: str | Mapping[str, object] | Format | None = None,
        settings: RemixSettings | Mapping[str, object] | None = None,
        embedder: Embedder | Literal["model", "all-MiniLM-L6-v2"] | None = None,
        registry: Registry | None = None,
        tokenizer: PreTrainedTokenizerBase | None = None,
    ) -> None:
        usual = preset_named(preset)
        values = {**usual.settings, **settings} if isinstance(settings, Mapping) else settings
        chosen = RemixSettings.of(usual.settings if values is None else values)
        named = {"optimizer": optimizer, "kernel": kernel, "retriever": retriever, "selector": selector}
        specs = {**usual.specs, **{role: spec for role, spec in named.items() if spec is not None}}
        strategies = (registry or default_registry()).strategies(specs)
        self._preset, self._given = preset, {role for role, spec in named.items() if spec is not None}
        self.model = model = as_routed(model, tokenizer)
        self.format = None if format is None else as_format(format)
        asked = self.format or as_format("cloze")
        if isinstance(embedder, str):
            embedder = own_embedder(embedder, model)
        embedder = embedder or default_embedder()
        strategies.selector.fits(model.layers, model.n_experts)  # before references are read
        if isinstance(selector, Mapping) and selector.get("experts") == CORE > model.n_experts:
            warnings.warn(f"The selector has {CORE} experts: all {model.n_experts} of a layer are used.", stacklevel=2)
        self.references = None if refset is None else as_reference_set(refset, model, embedder, asked)
        self.remixer = Remixer(model, self.references, strategies, embedder, asked, chosen)

    def __repr__(self) -> str:
        """What it does, part by part; what the preset did not set is marked, with what that would have been."""
        usual, settings = preset_named(self._preset), self.remixer.settings.model_dump()
        parts = {role: Registry.describe(made) | said_of(made) for role, made in vars(self.remixer.strategies).items()}
        lines = [f"Optimizer of {self.model.name!r}, by the preset {self._preset!r}:"]
        if (part := parts["selector"]).get("experts") == CORE > self.model.n_experts:
            part["experts"] = f"{CORE}: all {self.model.n_experts} of a layer"
        for role, of in parts.items():
            given = f" (given; the preset's: {_whole(usual.specs[role])})" if role in self._given else ""
            lines.append(f"  {role}{given}: {_whole(of)}")
        changed = {key: value for key, value in settings.items() if usual.settings.get(key) != value}
        for what, some in (("set", settings.keys() - changed), ("not set by it", changed)):
            lines.append(f"  {what}: {', '.join(f'{key} {settings[key]}' for key in settings if key in some)}")
        return "\n".join([*lines, f"  texts: {self.format or 'raw text'}", f"  references: {self.references}"])

    def optimize(self, text: str | Sequence[str]) -> Pathway:
        """The re-mixed pathway at the last token of a text ``[L, E]``, or of many ``[B, L, E]``."""
        texts = listed(text)
        pathway = self._remix(texts).pathway
        return pathway[0] if isinstance(text, str) else pathway

    def explain(self, text: Asked, choices: Sequence[str] = (), answer: int | None = None) -> Explanation:
        """How one text is re-mixed, and what that does: ``print`` it, or ``save`` it as a page.

        Args:
            text: or a ``Question``, or a row as a file has it, which has its own choices and answer.
            choices: then the text is asked as a question with these, two at least; without, it is taken as ``optimize``
                takes it, and the likeliest next tokens stand in their place.
            answer: the right choice, counted from 0: for upper bounds, which look at it; no other strategy does. The
                explanation says how far it is ahead, before and after.

        Raises:
            SettingError: fewer than two choices, or an answer that is none of them.
        """
        question: Question | None = None
        if isinstance(text, Question | Mapping):
            if choices or answer is not None:
                raise SettingError("Expected a question, with choices and answer, or these beside a text, got both.")
            (question,) = as_questions([text], None)
            text, choices, answer = question.question, question.choices, question.answer
        check_text(text)
        if not isinstance(choices, list | tuple) or len(choices) == 1:
            raise SettingError(f"Expected two choices at least, as a list, or none, got {choices!r}.")
        if answer is not None and answer not in range(len(choices)):
            raise SettingError(f"Expected an answer from 0 to {len(choices) - 1}, a place in choices, got {answer}.")
        if not choices:
            return explain(text, self._how, self._remix([text]), self.model, self._shown)
        question = question or Question("question", text, tuple(choices), answer)
        states = self.remixer.prefill([self.model.encode(question, self.remixer.format)])
        run = self.remixer.remix(states, [description(question)], [question])
        return explain(text, self._how, run, self.model, self._shown, question.choices, answer)

    @property
    def _how(self) -> str:
        """What explanations say was run."""
        s = self.remixer.strategies
        return f"{in_words(s.optimizer)}, layers by {in_words(s.selector)}, on {self.model.name}"

    @property
    def _shown(self) -> ReferenceSet | None:
        """The references that neighbours are of, if neighbours have a part in answers."""
        return self.remixer.candidates if self.remixer.strategies.shows_neighbours else None

    def problem(self, question: Asked | Sequence[Asked], choices: Sequence[str] | None = None) -> Problem:
        """What a selector looks at, of one question or many: for attribution by hand. It holds no label. Texts without
        choices are taken as ``optimize`` takes them, and have no ``scores``."""
        texts = [question] if isinstance(question, str) else question
        if choices is None and isinstance(texts, list | tuple) and all(isinstance(t, str) for t in texts):
            return self.remixer.problem_of([self._prompt(t) for t in listed(texts)], texts)
        return self.remixer.problem(as_questions(question, choices))

    def _remix(self, texts: Sequence[str]) -> Remixed:
        return self.remixer.remix(self.remixer.prefill([self._prompt(t) for t in texts]), texts)

    def _prompt(self, text: str) -> Prompt:
        if self.format is None:
            return self.model.encode_text(text)
        return self.format.open_prompt(text, self.model.tokenizer, self.model.max_length)

    @overload
    def answer(self, question: Asked, choices: Sequence[str] | None = None) -> Answer: ...

    @overload
    def answer(
        self, question: list[str] | list[Question] | list[Row], choices: Sequence[Sequence[str]] | None = None
    ) -> list[Answer]: ...

    @checked_call
    def answer(self, question: Any, choices: Any = None) -> Answer | list[Answer]:
        """Prefill once, optimize, score. Choices stand beside texts; questions, and rows as files have, hold their own.

        Raises:
            SettingError: choices that are no lists, or a question with fewer than two.
        """
        asked = as_questions(question, choices)
        if alone := next((q for q in asked if not isinstance(q.choices, list | tuple) or len(q.choices) < 2), None):
            raise SettingError(f"Expected two choices at least of each question, got {alone.choices!r}; give another.")
        answers = self.remixer.answer(asked)
        return answers[0] if isinstance(question, str | Question | Mapping) else answers


def _whole(strategy: str | Mapping[str, object]) -> str:
    """Its name, with all parameters that it says."""
    if isinstance(strategy, str):
        return strategy
    said = ", ".join(f"{key} {value}" for key, value in strategy.items() if key != "name")
    return f"{strategy['name']}{said and f' ({said})'}"
