"""``C3POLM``: a Mixture-of-Experts model, re-mixed, along a rule, or as it is, in lm-evaluation-harness.

Requests are read, batched, stopped and logged as their ``hf`` does. What differs is how options are scored: those of
one context stand behind a prompt that is run once, and, with an optimizer, re-mixed once.
"""

from __future__ import annotations

import logging
import warnings
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar, cast

from accelerate.utils.memory import clear_device_cache, should_reduce_batch_size
from lm_eval.models.huggingface import HFLM
from torch import Tensor, nn
from tqdm import tqdm

from c3po_adaptive import DataError, Pathway, Prompt, RoutedModel, SettingError, borrowed, public_name

from .arguments import Evaluated
from .contexts import Context, Gathered, Ids, gathered, with_contexts

if TYPE_CHECKING:
    from lm_eval.api.instance import Instance
    from transformers import PreTrainedTokenizerBase

    from c3po_adaptive import Likelihoods, NamedRule, Remixer

Encoded = tuple[tuple[str, str] | None, list[int], list[int]]
"""A request as their ``TemplateLM`` encodes it: its texts (None: a window of a longer one), context, continuation."""

THEIRS = ("max_length", "prefix_token_id", "truncation", "think_end_token", "enable_thinking", "chat_template_args")
"""Arguments of their ``hf`` that mean the same here."""
OWN = ("pretrained", "tokenizer", "batch_size", "max_batch_size", *THEIRS)
REQUESTS = ("loglikelihood", "loglikelihood_rolling", "generate_until")
Method = TypeVar("Method", bound=Callable[..., Any])


def _reading(method: Method) -> Method:
    """Afterwards a model that is in training is as it was; ``routed`` sees first whether it is another by now."""

    @wraps(method)
    def run(self: C3POLM, *args: Any, **kwargs: Any) -> Any:
        with self.routed.answering(), borrowed(self.routed.model, self.routed.tokenizer):
            return method(self, *args, **kwargs)

    return cast(Method, run)


class C3POLM(HFLM):  # type: ignore[misc]  # the harness has no types
    """Their ``hf`` with our model; without an optimizer it gives the same log-likelihoods and texts.

    Neighbours are found by the part of the context that follows its last blank line, where their solved examples end:
    an embedder reads the beginning of a long text only, which these would fill. ``query`` names the document's field
    that holds the bare question instead, as references are found by theirs. A prompt without a context is left alone.

    A model of transformers may be in training: it answers in evaluation mode, and is left as it was.

    Args:
        pretrained: an alias, a Hub id, a folder, a ``RoutedModel``, or a model of transformers.
        tokenizer: of a model of transformers.
        batch_size: prompts that are run together, each with all of its options; ``auto``: as many as fit.
        max_batch_size: what ``auto`` begins with.
        args: those of ``Evaluated.of``, every setting of ``RemixSettings``, and ``max_length``, ``prefix_token_id``,
            ``truncation``, ``think_end_token``, ``enable_thinking``, ``chat_template_args`` of their ``hf``.

    Raises:
        SettingError: an argument that does not exist, one that has no part without an optimizer, a rule beside one, a
            strategy that looks at the right answer, no tokenizer beside a model of transformers, or one beside another.
        ModelError, DataError, UnknownNameError: as for ``load_moe_model`` and ``Optimizer``.
    """

    def __init__(
        self,
        pretrained: str | Path | RoutedModel | nn.Module,
        *,
        tokenizer: PreTrainedTokenizerBase | None = None,
        batch_size: int | str = 1,
        max_batch_size: int = 64,
        **args: Any,
    ) -> None:
        lent: AbstractContextManager[str | Path | RoutedModel]
        if not isinstance(pretrained, str | Path):
            lent = borrowed(pretrained, tokenizer)
        elif tokenizer is None:
            lent = nullcontext(pretrained)
        else:
            raise SettingError(
                "Expected no tokenizer beside a name, got one; give load_moe_model(NAME, tokenizer=…) in its place."
            )
        theirs = {name: args.pop(name) for name in THEIRS if name in args}
        self.query = args.get("query")
        with lent as given:
            self.evaluated = Evaluated.asked(given, args, OWN, "model_args")
            self.routed, self.remixer, self.rule = self.evaluated.routed, self.evaluated.remixer, self.evaluated.rule
            with _quietly():
                super().__init__(
                    self.routed.model,
                    backend="causal",
                    revision=args.get("revision"),
                    tokenizer=self.routed.tokenizer,
                    batch_size=batch_size,
                    max_batch_size=max_batch_size,
                    **theirs,
                )
        self.pretrained = public_name(self.routed.name)
        self._generating: Sequence[Context] = ()

    def __getattr__(self, name: str) -> Any:
        """Tasks ask for what they need by name; one that asks for anything else learns what there is."""
        raise AttributeError(
            f"{type(self).__name__} has no {name!r}: expected a task that scores or generates, whose requests are "
            f"among {', '.join(REQUESTS)}; choose such a task."
        )

    @property
    def max_length(self) -> int:
        """The longest context with its continuation: theirs, or where our tails end."""
        return min(int(super().max_length), self.routed.max_length)

    def get_model_info(self) -> dict[str, object]:
        """What was run, for their results: the model, and how it was re-mixed."""
        model = self.routed.model
        info = {
            "model_num_parameters": model.num_parameters(),
            "model_dtype": str(model.dtype),
            "model_revision": self.revision,
            "model_sha": getattr(model.config, "_commit_hash", None) or "",
        }
        return info | {"c3po": self.evaluated.told(self.query)}

    # -- scoring ---------------------------------------------------------------------------------------------------

    @_reading
    def loglikelihood(self, requests: list[Instance], disable_tqdm: bool = False) -> list[tuple[float, bool]]:
        """Log-likelihood of each continuation, and whether it is the greedy one."""
        self._check_contexts(requests)
        told = with_contexts(requests, self.query)
        found: list[tuple[float, bool]] = super().loglikelihood(told, disable_tqdm=disable_tqdm)
        return found

    @_reading
    def loglikelihood_rolling(self, requests: list[Instance], disable_tqdm: bool = False) -> list[float]:
        """Log-likelihood of whole texts, which nothing is asked in.

        Raises:
            SettingError: with an optimizer, which would have no part in them.
        """
        if self.remixer is not None:
            raise _nothing_asked({str(r.task_name) for r in requests}, self.remixer)
        found: list[float] = super().loglikelihood_rolling(requests, disable_tqdm=disable_tqdm)
        return found

    def _check_contexts(self, requests: Sequence[Instance]) -> None:
        """Refuse tasks none of whose requests would be re-mixed."""
        if self.remixer is not None:
            asked = {r.task_name for r in requests if r.args[0].strip()}
            if lacking := {str(r.task_name) for r in requests if r.task_name not in asked}:
                raise _nothing_asked(lacking, self.remixer)

    def _loglikelihood_tokens(
        self, requests: Sequence[Encoded], disable_tqdm: bool = False, override_bs: int | None = None
    ) -> list[tuple[float, bool]]:
        """Of tokens; each context is run once with all of its continuations."""
        placed = gathered([(texts and texts[0], *self._fitted(*tokens)) for texts, *tokens in requests])
        size = override_bs or (self.max_batch_size if self.batch_size == "auto" else self.batch_size)
        found: dict[Gathered, dict[Ids, tuple[float, bool]]] = {}
        contexts = list(dict.fromkeys(one for one, _ in placed))
        with tqdm(total=len(contexts), disable=disable_tqdm, desc="Scoring contexts") as bar:
            for part, scores in self._in_batches(contexts, int(size)):
                for one, s in zip(part, scores, strict=True):
                    found[one] = dict(
                        zip(one.options, zip(s.total.tolist(), s.greedy.tolist(), strict=True), strict=True)
                    )
                bar.update(len(part))
        answers = [found[one][option] for one, option in placed]
        for (texts, _, _), answer in zip(requests, answers, strict=True):
            if texts is not None:
                self.cache_hook.add_partial("loglikelihood", texts, answer)
        return answers

    def _fitted(self, context: Sequence[int], continuation: Sequence[int]) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """Both, the context cut on the left to what the model takes, as theirs is."""
        if not 0 < len(continuation) <= self.max_length:
            raise DataError(
                f"Expected a continuation of 1 to {self.max_length} tokens, got {len(continuation)}; shorten it, or "
                "leave that document out."
            )
        kept = tuple(context[-(self.max_length + 1 - len(continuation)) :])
        if len(kept) < len(context):
            logging.getLogger(__name__).warning(
                "A context of %d tokens is cut on the left to %d, as the model takes %d with its continuation.",
                *(len(context), len(kept), self.max_length),
            )
        return kept, tuple(continuation)

    def _in_batches(
        self, contexts: Sequence[Gathered], size: int
    ) -> Iterator[tuple[Sequence[Gathered], Sequence[Likelihoods]]]:
        """The longest first: what does not fit in memory is found out soon, and halves the batches that follow."""
        waiting = sorted(contexts, key=lambda one: -one.length)
        while waiting:
            part = waiting[:size]
            try:
                found = self._scored(part)
            except RuntimeError as error:
                if size == 1 or not should_reduce_batch_size(error):
                    raise
                size //= 2
                warnings.warn(f"{len(part)} contexts did not fit in memory; going on with {size}.", stacklevel=2)
                clear_device_cache(garbage_collection=True)
                continue
            yield part, found
            waiting = waiting[len(part) :]

    def _scored(self, contexts: Sequence[Gathered]) -> list[Likelihoods]:
        """Along their re-mixed pathways; one without a text to find neighbours by keeps the model's own."""
        remixed = [one for one in contexts if self.remixer is not None and one.query.strip()]
        plain = [one for one in contexts if one not in remixed]
        found = dict(zip(remixed, self._scored_along(remixed), strict=True))
        prompts = [one.prompt for one in plain]
        found |= zip(plain, self.routed.likelihoods(prompts, rule=self.rule, batch_size=len(plain)), strict=True)
        return [found[one] for one in contexts]

    def _scored_along(self, contexts: Sequence[Gathered]) -> list[Likelihoods]:
        if self.remixer is None or not contexts:
            return []
        with self.routed.answering():
            states = self.remixer.prefill([one.prompt for one in contexts], keep=False)
            run = self.remixer.remix(states, [one.query for one in contexts])
            return self.routed.likelihoods_along(states, run.pathway)

    # -- generating ------------------------------------------------------------------------------------------------

    @_reading
    def generate_until(self, requests: list[Instance], disable_tqdm: bool = False) -> list[str]:
        """The text that continues each context."""
        self._check_contexts(requests)
        told = with_contexts(requests, self.query)
        found: list[str] = super().generate_until(told, disable_tqdm=disable_tqdm)
        return found

    def tok_batch_encode(self, strings: Sequence[Context], *args: Any, **options: Any) -> tuple[Tensor, Tensor]:
        """Tokens of contexts, which are kept until these are generated from: tokens do not tell the question."""
        self._generating = strings
        encoded: tuple[Tensor, Tensor] = super().tok_batch_encode([str(text) for text in strings], *args, **options)
        return encoded

    def _model_generate(self, context: Tensor, *args: Any, **options: Any) -> Tensor:
        with self.routed.answering():
            seen = options["attention_mask"]
            routing: Pathway | NamedRule | None = self.rule
            if self.remixer is not None:
                prompts = [Prompt(tuple(row[mask.bool()].tolist())) for row, mask in zip(context, seen, strict=True)]
                states = self.remixer.prefill(prompts, keep=False)
                routing = self.remixer.remix(states, [text.query for text in self._generating]).pathway
            with self.routed.decoding(routing, seen):
                generated: Tensor = super()._model_generate(context, *args, **options)
        return generated


def _nothing_asked(tasks: Collection[str], remixer: Remixer) -> SettingError:
    return SettingError(
        f"Expected tasks that ask something, got {', '.join(sorted(tasks))}, whose requests have no context: "
        f"{remixer.strategies.optimizer.name} would have no part in their results; run them without an optimizer."
    )


@contextmanager
def _quietly() -> Iterator[None]:
    """Without what ``hf`` says of models that it did not load: that arguments are ignored, which are not."""
    log = logging.getLogger(HFLM.__module__)
    before = log.level
    log.setLevel(logging.ERROR)
    try:
        yield
    finally:
        log.setLevel(before)
