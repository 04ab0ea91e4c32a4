"""``C3POModelAPI``: a Mixture-of-Experts model, re-mixed, along a rule, or as it is, as a provider of inspect_ai."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from hashlib import sha256
from types import SimpleNamespace
from typing import Any, cast

import anyio
import anyio.to_thread
import torch
from inspect_ai.model import (
    ChatCompletionChoice,
    ChatMessage,
    ChatMessageAssistant,
    GenerateConfig,
    ModelAPI,
    ModelOutput,
    ModelUsage,
)
from torch import Tensor

from c3po_adaptive import DataError, Prompt, SettingError, check_number

from .arguments import Evaluated, number, switch
from .drawing import Drawing

UNSERVED = (
    *("best_of", "frequency_penalty", "presence_penalty", "logit_bias", "num_choices", "logprobs", "top_logprobs"),
    *("prompt_logprobs", "response_schema"),
)
"""Settings of a request that would change its answer, and that this provider does not have."""
MOST_TOKENS = 512  # of an answer, where the task says nothing
BOUNDS: dict[str, dict[str, Any]] = {
    "max_tokens": {"at_least": 1, "whole": True},
    "temperature": {"at_least": 0, "hint": "0 takes the likeliest tokens"},
    "top_p": {"above": 0, "at_most": 1, "hint": "1 draws from all tokens"},
    "top_k": {"at_least": 0, "whole": True, "hint": "0 draws from all tokens"},
}
"""Of a request's numbers."""


@dataclass(eq=False)
class _Asked:
    """One request, and its answer when there is one.

    Attributes:
        prompt: its tokens.
        query: the text that neighbours are found by.
        config: how it is generated.
        answer: what came out.
        error: why nothing did.
    """

    prompt: Prompt
    query: str
    config: GenerateConfig
    answer: ModelOutput | None = None
    error: Exception | None = None


class C3POModelAPI(ModelAPI):
    """A provider of inspect_ai; with neither an optimizer, a preset nor a rule it is the model as it is.

    Messages are put by the tokenizer's chat template; without one their texts stand one below another. Answers are the
    likeliest tokens, unless a request has a temperature above 0. Requests that come while others are answered are
    answered together, and each as it would be alone. Neighbours are found by the last message of the user, as the task
    puts it.

    Args:
        model_name: an alias, a Hub id or a folder: what stands behind ``c3po/``.
        base_url: none is had.
        api_key: none is needed.
        config: of the model's requests.
        batch_size: requests that are answered together.
        chat_template: whether the tokenizer's is used; None: if it has one.
        args: those of ``Evaluated.of``, and every setting of ``RemixSettings``.

    Raises:
        SettingError: an argument that does not exist, one that has no part without an optimizer, a rule beside one or
            one that this model cannot follow, or a strategy that looks at the right answer.
        ModelError, DataError, UnknownNameError: as for ``load_moe_model``, ``Optimizer`` and ``rule_named``.
    """

    def __init__(
        self,
        model_name: str,
        base_url: str | None = None,
        api_key: str | None = None,
        config: GenerateConfig | None = None,
        *,
        batch_size: int | str = 16,
        chat_template: bool | str | None = None,
        **args: Any,
    ) -> None:
        super().__init__(model_name, base_url, api_key, [], config or GenerateConfig())
        asked = SimpleNamespace(name="c3po", batch_size=number(batch_size))
        check_number(asked, "batch_size", at_least=1, whole=True)
        if "query" in args:
            raise SettingError("Expected no query, got one: a chat has no field of that name; leave it out.")
        self.evaluated = Evaluated.asked(model_name, args, ("batch_size", "chat_template"), "model arguments (-M)")
        self.batch_size, self.turn = cast(int, asked.batch_size), anyio.Lock()
        self.waiting: list[_Asked] = []
        tokenizer = self.evaluated.routed.tokenizer
        has = tokenizer.chat_template is not None
        self.templated = has if chat_template is None else switch("chat_template", chat_template)
        if self.templated and not has:
            raise SettingError(
                f"Expected {model_name} to have a chat template, as chat_template=true says, got none; leave it out."
            )
        self.base_url = self._identity()

    def _identity(self) -> str:
        """Of what answers. In place of an address, which stands in the key of inspect_ai's cache of answers
        (``cache=True``): that key knows the model's name, and nothing of what else a model is made with."""
        routed, remixer = self.evaluated.routed, self.evaluated.remixer
        card = None if remixer is None or remixer.references is None else remixer.references.card
        template = cast(Any, routed.tokenizer).chat_template if self.templated else None
        told = [routed.fingerprint, str(routed.model.dtype), template, self.evaluated.told(), card]
        return f"c3po:{sha256(json.dumps(told, sort_keys=True, default=str).encode()).hexdigest()[:16]}"

    def max_connections(self) -> int:
        """As many requests wait as are answered together."""
        return self.batch_size

    def max_tokens(self) -> int:
        """Of an answer, where the task says nothing."""
        return MOST_TOKENS

    async def generate(
        self, input: list[ChatMessage], tools: list[Any], tool_choice: Any, config: GenerateConfig
    ) -> ModelOutput:
        """The answer to a chat.

        Raises:
            SettingError: tools, pictures or sound, or a setting of the request that this provider does not have.
        """
        _check(input, tools, config)
        asked = _Asked(self._prompt(input), _query(input), config)
        self.waiting.append(asked)
        async with self.turn:
            if asked.answer is None and asked.error is None:  # those who waited before may have taken it along
                alike = [one for one in self.waiting if one.config == config and one is not asked]
                part = [asked, *alike][: self.batch_size]
                self.waiting = [one for one in self.waiting if one not in part]
                await anyio.to_thread.run_sync(self._answer, part)
        if asked.answer is None:
            raise cast(Exception, asked.error)
        return asked.answer

    def _prompt(self, messages: Sequence[ChatMessage]) -> Prompt:
        tokenizer = self.evaluated.routed.tokenizer
        if self.templated:
            chat = [{"role": one.role, "content": one.text} for one in messages]
            text: Any = tokenizer.apply_chat_template(chat, tokenize=False, add_generation_prompt=True)
        else:
            text = "\n\n".join(one.text for one in messages)
        ids: Any = tokenizer(text, add_special_tokens=not self.templated)["input_ids"]
        return Prompt(tuple(ids))

    def _answer(self, part: Sequence[_Asked]) -> None:
        for alike in self._of_one_room(part):
            try:
                for one, answer in zip(alike, self._along(alike), strict=True):
                    one.answer = answer
            except Exception as error:
                for one in alike:
                    one.error = error

    def _of_one_room(self, part: Sequence[_Asked]) -> Iterator[list[_Asked]]:
        """Requests of one configuration that are generated side by side: none is cut, or runs beyond the model's
        length, for another. Prompts that the model's length leaves less room than was asked for stay among those of
        their own length."""
        room, found = self.evaluated.routed.max_length, dict[int, list[_Asked]]()
        for one in part:
            found.setdefault(max(room, len(one.prompt.ids) + _most(one.config)), []).append(one)
        yield from found.values()

    def _along(self, part: Sequence[_Asked]) -> list[ModelOutput]:
        routed, config = self.evaluated.routed, part[0].config
        width = max(len(one.prompt.ids) for one in part)
        room = min(_most(config), routed.max_length - width)
        if room < 1:  # prompts that the model cannot read
            return [ModelOutput.from_content(self.model_name, "", stop_reason="model_length") for _ in part]
        ids = torch.full((len(part), width), routed.pad)
        seen = torch.zeros_like(ids)
        for row, one in enumerate(part):
            ids[row, width - len(one.prompt.ids) :] = torch.tensor(one.prompt.ids)
            seen[row, width - len(one.prompt.ids) :] = 1
        ids, seen = ids.to(routed.model.device), seen.to(routed.model.device)
        prompts = [one.prompt for one in part]
        with routed.answering():
            routing: Any = self.evaluated.rule
            if self.evaluated.remixer is not None:
                states = self.evaluated.remixer.prefill(prompts, keep=False)
                routing = self.evaluated.remixer.remix(states, [one.query for one in part]).pathway
            with routed.decoding(routing, seen):
                options = self._options(config, prompts)
                output = cast(Any, routed.model).generate(ids, attention_mask=seen, max_new_tokens=room, **options)
        return [self._output(one, row, room) for one, row in zip(part, output[:, width:], strict=True)]

    def _options(self, config: GenerateConfig, prompts: Sequence[Prompt]) -> dict[str, Any]:
        """What transformers' ``generate`` is told: to take the likeliest tokens, which drawing makes of those drawn."""
        tokenizer = self.evaluated.routed.tokenizer
        options: dict[str, Any] = {"do_sample": False, "pad_token_id": self.evaluated.routed.pad}
        if config.temperature:
            drawing = Drawing(config.temperature, prompts, config.seed, config.top_p or 1.0, config.top_k or 0)
            options |= {"logits_processor": [drawing], "num_beams": 1}
        if config.stop_seqs:
            options |= {"stop_strings": config.stop_seqs, "tokenizer": tokenizer}
        return options

    def _output(self, asked: _Asked, new: Tensor, room: int) -> ModelOutput:
        """What was generated up to its end, of ``room`` tokens at most."""
        routed, ids = self.evaluated.routed, new.tolist()
        told = cast(Any, routed.model.generation_config).eos_token_id  # one, several, or none
        tokenizer = routed.tokenizer
        ends = {tokenizer.eos_token_id, tokenizer.pad_token_id, *(told if isinstance(told, list) else [told])}
        length = next((i for i, token in enumerate(ids) if token in ends), len(ids))
        text: Any = tokenizer.decode(ids[:length], skip_special_tokens=True)
        cut = min((text.find(stop) for stop in asked.config.stop_seqs or () if stop in text), default=len(text))
        message = ChatMessageAssistant(content=text[:cut], model=self.model_name, source="generate")
        full = "max_tokens" if room == _most(asked.config) else "model_length"
        reason: Any = "stop" if length < room or cut < len(text) else full
        read = len(asked.prompt.ids)
        usage = ModelUsage(input_tokens=read, output_tokens=length, total_tokens=read + length)
        choice = ChatCompletionChoice(message=message, stop_reason=reason)
        return ModelOutput(model=self.model_name, choices=[choice], usage=usage)


def _most(config: GenerateConfig) -> int:
    """Tokens of an answer, as far as the request says."""
    return MOST_TOKENS if config.max_tokens is None else config.max_tokens


def _query(messages: Sequence[ChatMessage]) -> str:
    """The last message of the user; of a chat without one, the last message."""
    asked = [one.text for one in messages if one.role == "user"]
    return str(asked[-1] if asked else messages[-1].text)


def _check(messages: Sequence[ChatMessage], tools: Sequence[Any], config: GenerateConfig) -> None:
    if not messages:
        raise DataError("Expected a chat of one message at least, got none; give the sample an input.")
    if tools:
        raise SettingError(
            f"Expected a task without tools, got {len(tools)}: c3po/… models call none; choose another task, or hf/…."
        )
    kinds = {part.type for one in messages if not isinstance(one.content, str) for part in one.content}
    if others := sorted(kinds - {"text", "reasoning"}):
        raise SettingError(f"Expected messages of text alone, got {', '.join(others)}; choose another task.")
    if given := [name for name in UNSERVED if getattr(config, name, None) not in (None, False)]:
        raise SettingError(
            f"Expected a request without {', '.join(given)}, which c3po/… models do not have; leave it out."
        )
    _check_numbers(config)


def _check_numbers(config: GenerateConfig) -> None:
    given = SimpleNamespace(name="request", **config.model_dump(include={*BOUNDS}, exclude_none=True))
    for field in [field for field in BOUNDS if hasattr(given, field)]:
        check_number(given, field, **BOUNDS[field])
    if config.temperature is None and (alone := [name for name in ("top_p", "top_k") if hasattr(given, name)]):
        raise SettingError(
            f"Expected a temperature beside {' and '.join(alone)}, got none: answers are then the likeliest tokens; "
            "add --temperature, or leave them out."
        )
    if "" in (config.stop_seqs or ()):
        raise SettingError("Expected stop_seqs that are some text each, got an empty one, where every answer ends.")
