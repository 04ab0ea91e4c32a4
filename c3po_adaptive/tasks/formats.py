"""How a question is put to the model: as text (``render``), then as tokens (``encode``)."""

from __future__ import annotations

import json
import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from inspect import signature
from string import ascii_uppercase
from typing import TYPE_CHECKING, Any, ClassVar, Literal, cast, get_args

from ..errors import DataError, ModelError, SettingError, UnknownNameError, suggestion
from ..storage.picture_file import Picture
from ..types import Prompt, Question
from .exact_match import lettered, matched
from .pictured import MARK, Described, with_pictures
from .texts import check_text

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

Normalize = Literal["tokens", "characters", "none"]
"""What an option's log-likelihood is divided by: its tokens, its characters (without the leading space), or one."""

HARNESS = "lm_eval:"
SHOWN = 40  # characters of a text that a message names
"""What tasks of lm-evaluation-harness are called by; their questions say themselves how they are put."""

Token = Literal["last", "middle", "first"]
"""The token of a prompt where a pathway acts: the last one (the paper), or for comparison another."""

# A gap to be filled is a run of underscores, or a single one standing alone: not the subscript of Z_3, x_i or H_{2}O.
BLANK = re.compile(r"_{2,}|(?<![\w{}^\\])_(?![\w{])")


@dataclass(frozen=True)
class Rendered:
    """A question as text: the prompt, and what each choice adds to it.

    Attributes:
        prompt: what is the same for every choice.
        options: what each adds.
        special: the tokenizer adds BOS and such.
        given: the beginning of each option that is given, so that the rest alone is scored; (): all is scored.
    """

    prompt: str
    options: tuple[str, ...]
    special: bool = True
    given: tuple[str, ...] = ()


class Format(ABC):
    """A way to ask; subclasses are frozen dataclasses with a ``name``.

    Attributes:
        normalize: see ``Normalize``.
        shots: solved examples in the same format, put in front (in-context learning), or texts, put there as they are.
        chat: ask through the tokenizer's chat template, for -Instruct and -chat models: what would be the prompt is a
            user's turn, and the options are the assistant's.
        token: of the prompt, where a pathway acts, see ``Token``.
        writes: what an answer is that the model generates: the text of a choice, or its letter.
    """

    name: ClassVar[str]
    writes: ClassVar[Literal["text", "letter"]] = "text"
    normalize: Normalize
    shots: tuple[Question | str, ...]
    chat: bool
    token: Token

    def __post_init__(self) -> None:
        _length(self.normalize)  # refuses an unknown one
        if self.token not in get_args(Token):
            raise SettingError(f"Expected token to be one of {get_args(Token)}, got {self.token!r}.")
        for shot in self.shots:
            if isinstance(shot, str):
                check_text(shot, "A shot")
                continue
            if not isinstance(shot, Question):
                raise DataError(
                    f"Expected solved examples (Question records) or texts as shots, got {type(shot).__name__}."
                )
            if shot.answer is None or not 0 <= shot.answer < len(shot.choices):
                raise DataError(f"Expected solved examples as shots, got {shot.id!r} with the answer {shot.answer!r}.")

    def render(self, question: Question) -> Rendered:
        """The question as text, after the shots, which a blank line separates."""
        _check_texts(question)
        if not question.choices:
            raise DataError(
                f"Expected a question with choices, got none in {question.id!r}; see raw_text for bare text."
            )
        own = self._marked(question)
        return replace(own, prompt="".join(f"{self._solved(shot)}\n\n" for shot in self.shots) + own.prompt)

    def put(self, question: Question, tokenizer: PreTrainedTokenizerBase) -> Rendered:
        """The question as the model reads it: as ``render`` has it, or as turns of a chat.

        Raises:
            ModelError: a chat is asked for, and the tokenizer has no template for it.
        """
        return self._in_turns(question, tokenizer) if self.chat else self.render(question)

    def prompt(
        self,
        question: Question,
        tokenizer: PreTrainedTokenizerBase,
        max_length: int | None = None,
        processor: Any = None,
    ) -> Prompt:
        """The question as tokens, with its images and those of its shots as the processor makes them ready.

        Raises:
            ModelError: a chat is asked for, and the tokenizer has no template for it.
            DataError: longer than the context, an option without tokens, or a picture that cannot be read, or not by
                this model: it has no processor.
        """
        rendered = self.put(question, tokenizer)
        pictures = self._pictures(question)
        try:
            if pictures:
                prompt = self._seen(rendered, pictures, tokenizer, max_length, processor)
            else:
                prompt = encode(rendered, tokenizer, self.normalize, max_length=max_length)
            last = len(prompt.ids) - 1
            return replace(prompt, after={"last": 0, "middle": last - last // 2, "first": last}[self.token])
        except DataError as error:  # among thousands, which one
            raise DataError(f"Question {question.id!r}: {error}") from error

    def _pictures(self, question: Question) -> list[Picture]:
        """In the order of their marks."""
        asked = [*(shot for shot in self.shots if isinstance(shot, Question)), question]
        return [picture for one in asked for picture in one.pictures]

    def _seen(
        self,
        rendered: Rendered,
        pictures: list[Picture],
        tokenizer: PreTrainedTokenizerBase,
        max_length: int | None,
        processor: Any,
    ) -> Prompt:
        """A question with pictures as tokens."""
        if processor is None:
            raise DataError(
                f"expected a text alone, as this model reads no images, or its processor is not there; got "
                f"{len(pictures)} of them. c3po models lists the families that read images; leave them out, or load "
                "such a model, with its processor's files."
            )

        def encoded(text: str) -> Prompt:
            return encode(replace(rendered, prompt=text), tokenizer, self.normalize, max_length=max_length)

        prompt = with_pictures(rendered.prompt, pictures, processor, encoded, special=rendered.special)
        _check_length(len(prompt.ids), max(map(len, prompt.options)), tokenizer, max_length)
        return prompt

    def read(self, written: str, question: Question) -> int:
        """Which choice a text is that the model wrote; ``NO_CHOICE`` if it is none."""
        return matched(written, self._alone(question).options)

    def open_prompt(self, text: str, tokenizer: PreTrainedTokenizerBase, max_length: int | None = None) -> Prompt:
        """The tokens of a question without choices, after the shots.

        Raises:
            SettingError: a pathway is to act on another token than the last, before which nothing is generated.
        """
        if self.token != "last":
            raise SettingError(
                f"Expected token: last for a text without choices, got {self.token!r}: what follows comes after the "
                "last one."
            )
        rendered = self.put(Question("", text, ("",)), tokenizer)
        return encode(replace(rendered, options=()), tokenizer, max_length=max_length)

    def _in_turns(self, question: Question, tokenizer: PreTrainedTokenizerBase) -> Rendered:
        """The question as the last user's turn of a chat, after the shots as turns of both."""
        if tokenizer.chat_template is None:
            raise ModelError(
                "Expected a tokenizer with a chat template for chat=True, got one without; leave chat out, or load an "
                "-Instruct or -chat model."
            )
        turns, before = [], ""
        for shot in self.shots:
            if isinstance(shot, str):
                before += f"{shot}\n\n"
                continue
            asked = self._marked(shot)
            turns += [("user", asked.prompt), ("assistant", asked.options[shot.answer or 0].strip())]
        _check_texts(question)
        own = self._marked(question)
        messages = [{"role": role, "content": text} for role, text in [*turns, ("user", before + own.prompt)]]
        empty = [*messages[:-1], {"role": "user", "content": ""}]
        prompt, other = (
            cast(str, tokenizer.apply_chat_template(each, tokenize=False, add_generation_prompt=True))
            for each in (messages, empty)
        )
        if prompt == other:
            raise ModelError(
                "Expected a chat template that writes the user's message, got one that leaves it out; set "
                "tokenizer.chat_template to the model's own, or leave chat out."
            )
        space = "" if prompt[-1:].isspace() else " "
        options, given = (tuple(space + text.strip() for text in texts) for texts in (own.options, own.given))
        return Rendered(prompt, options, special=False, given=given)

    @abstractmethod
    def _alone(self, question: Question) -> Rendered:
        """The question without shots."""

    def _solved(self, shot: Question | str) -> str:
        if isinstance(shot, str):
            return shot
        rendered = self._marked(shot)
        return rendered.prompt + rendered.options[shot.answer or 0]

    def _marked(self, question: Question) -> Rendered:
        """The question without shots, behind a mark for each of its images."""
        own = self._alone(question)
        return replace(own, prompt=MARK * len(question.images) + own.prompt) if question.images else own


@dataclass(frozen=True)
class Cloze(Format):
    """Each choice is scored as the text that follows the question; the choices do not see each other.

    A sentence with one blank to be filled is cut there: each option is its choice and the rest of the sentence, so that
    the likelihood of the whole continuation counts. HellaSwag's context is continued as it stands, and so are those of
    lm-evaluation-harness, whose choices bring their own delimiter.

    Attributes:
        partial: tasks whose choices fill a blank: the rest of the sentence alone is scored, if
            there is any (Trinh and Le 2018, arXiv 1806.02847, *partial* evaluation; what WinoGrande is reported by).
    """

    normalize: Normalize = "tokens"
    shots: tuple[Question | str, ...] = ()
    chat: bool = False
    partial: tuple[str, ...] = ("winogrande", "knowref")
    token: Token = "last"
    name: ClassVar[str] = "cloze"

    def __post_init__(self) -> None:
        super().__post_init__()
        if isinstance(self.partial, str) or not all(isinstance(task, str) for task in self.partial):
            raise SettingError(f"Expected partial to be a list of tasks, got {self.partial!r}; [] is none.")
        object.__setattr__(self, "partial", tuple(self.partial))  # a list is what YAML gives

    def _alone(self, question: Question) -> Rendered:
        if question.task.startswith(HARNESS):
            return Rendered(question.question, question.choices)
        if question.task == "hellaswag":
            return Rendered(question.question, _continuations(question, ""))
        blanks = [*BLANK.finditer(question.question)]
        before = question.question[: blanks[0].start()].rstrip() if len(blanks) == 1 else ""
        if before:
            rest = question.question[blanks[0].end() :]
            given = _continuations(question, "") if question.task in self.partial and rest.strip() else ()
            return Rendered(before, _continuations(question, rest), given=given)
        return Rendered(f"Question: {question.question}\nAnswer:", _continuations(question, ""))


@dataclass(frozen=True)
class Letter(Format):
    """The choices are listed with letters, and the letters are scored."""

    shots: tuple[Question | str, ...] = ()
    normalize: Normalize = field(default="none", init=False)
    chat: bool = False
    token: Token = "last"
    name: ClassVar[str] = "letter"
    writes: ClassVar[Literal["text", "letter"]] = "letter"

    def read(self, written: str, question: Question) -> int:
        return lettered(written, len(question.choices))

    def open_prompt(self, text: str, tokenizer: PreTrainedTokenizerBase, max_length: int | None = None) -> Prompt:
        raise SettingError(
            "Expected the choices, which the letter format lists in its prompt, got a text alone; ask answer() with "
            "choices, or take the cloze format."
        )

    def _alone(self, question: Question) -> Rendered:
        count = len(question.choices)
        if question.task.startswith(HARNESS):
            raise SettingError(
                f"Expected the cloze format for {question.task}, whose questions say how they are put, got letter."
            )
        if count > len(ascii_uppercase):
            raise DataError(
                f"Expected at most 26 choices for letters, got {count} in {question.id!r}; use the cloze format."
            )
        listed = "".join(
            f"{letter}. {choice}\n" for letter, choice in zip(ascii_uppercase, question.choices, strict=False)
        )
        options = tuple(f" {letter}" for letter in ascii_uppercase[:count])
        return Rendered(f"Question: {question.question}\n{listed}Answer:", options)


def format_by_name(name: str, **settings: Any) -> Format:
    """``cloze`` or ``letter``, with the settings of its class."""
    formats: dict[str, Callable[..., Format]] = {"cloze": Cloze, "letter": Letter}
    if not isinstance(name, str) or name not in formats:
        raise UnknownNameError(f"Expected a format, got {name!r}; {suggestion(str(name), formats)}")
    known = list(signature(formats[name]).parameters)
    if unknown := [key for key in settings if key not in known]:
        hint = suggestion(unknown[0], known, "leave it out.")
        raise SettingError(f"Expected settings of the format {name!r}, got {unknown[0]!r}; {hint}")
    try:
        return formats[name](**settings)
    except TypeError as error:
        raise SettingError(f"Expected settings of the format {name!r}, got {', '.join(settings)}: {error}.") from error


def as_format(spec: str | Mapping[str, Any] | Format) -> Format:
    """A format of its name, of a mapping ``{"name": …, **settings}``, or as it is."""
    if isinstance(spec, Format):
        return spec
    parameters = {"name": spec} if isinstance(spec, str) else {str(key): value for key, value in spec.items()}
    return format_by_name(parameters.pop("name", ""), **parameters)


def format_key(format: str | Format) -> str:
    """A format's name and parameters as text."""
    chosen = as_format(format)
    shots = [shot if isinstance(shot, str) else shot.row() for shot in chosen.shots]
    values = {f.name: getattr(chosen, f.name) for f in fields(cast(Any, chosen))} | {"shots": shots}
    return f"{chosen.name} {json.dumps(values, default=asdict, sort_keys=True)}"


def description(question: Question) -> str:
    """The text that is embedded for retrieval: what the question is about, or else itself without its choices; with
    its images if it has some.

    The paper embeds the description of the task; options would pull together questions that share wrong answers.
    """
    text = question.about or question.question
    return Described(text, question.pictures) if question.images else text


def encode(
    rendered: Rendered,
    tokenizer: PreTrainedTokenizerBase,
    normalize: Normalize = "tokens",
    *,
    max_length: int | None = None,
) -> Prompt:
    """Tokens of the prompt and of each option that may follow it.

    Prompt and option are tokenized together, and what follows the prompt's own tokens is the option. Where a token
    would reach over the boundary, the option is tokenized alone, without special tokens: merging would change the
    prompt, which must be one for all options.

    Args:
        rendered: the question as text.
        tokenizer: the model's tokenizer.
        normalize: what each option's log-likelihood is divided by, see ``Normalize``.
        max_length: the model's context; the tokenizer's ``model_max_length`` if None.
    """
    ids = _ids(rendered.prompt, tokenizer, special=rendered.special)
    options = tuple(_continuation(ids, rendered, option, tokenizer) for option in rendered.options)
    _check_length(len(ids), max(map(len, options), default=0), tokenizer, max_length)
    if not rendered.given:
        return Prompt(ids, options, tuple(map(_length(normalize), rendered.options, options)))
    begun = [_continuation(ids, rendered, text, tokenizer) for text in rendered.given]
    given = tuple(map(_in_common, options, begun))
    texts = [option.removeprefix(text) for option, text in zip(rendered.options, rendered.given, strict=True)]
    tokens = [option[n:] for option, n in zip(options, given, strict=True)]
    return Prompt(ids, options, tuple(map(_length(normalize), texts, tokens)), given)


def raw_text(text: str, tokenizer: PreTrainedTokenizerBase, *, max_length: int | None = None) -> Prompt:
    """A bare text as a prompt, exactly the tokens that the tokenizer gives, without options."""
    check_text(text)
    ids = _ids(text, tokenizer, special=True)
    _check_length(len(ids), 0, tokenizer, max_length, text)
    return Prompt(ids)


def raw_text_with(
    text: str,
    pictures: Sequence[Picture],
    tokenizer: PreTrainedTokenizerBase,
    processor: Any,
    *,
    max_length: int | None = None,
) -> Prompt:
    """The same behind pictures."""

    def encoded(whole: str) -> Prompt:
        return raw_text(whole, tokenizer, max_length=max_length)

    prompt = with_pictures(MARK * len(pictures) + text, pictures, processor, encoded, special=True)
    _check_length(len(prompt.ids), 0, tokenizer, max_length, text)
    return prompt


def _check_texts(question: Question) -> None:
    if not isinstance(question.choices, tuple | list):
        got = type(question.choices).__name__
        raise DataError(f"Question {question.id!r}: expected a list of choices, got {got}; give their texts.")
    for text in (question.question, *question.choices):
        check_text(text, f"Question {question.id!r}")


def _continuations(question: Question, rest: str) -> tuple[str, ...]:
    return tuple(f" {choice}{rest}" for choice in question.choices)


def _ids(text: str, tokenizer: PreTrainedTokenizerBase, *, special: bool) -> tuple[int, ...]:
    """The text's tokens with the special ones in front of it (BOS, where the model has one)."""
    plain = _tokenize(text, tokenizer, special=False)
    if not (text.strip() and plain):
        raise DataError(f"Expected a text with at least one token, got {text!r}; give the model something to read.")
    ids = _tokenize(text, tokenizer, special=special)
    if ids[-len(plain) :] != plain:
        raise ModelError(
            f"Expected a tokenizer that puts special tokens only before a text, got {ids} for {plain}; "
            "load it with add_eos_token=False, as an answer is to follow."
        )
    return ids


def _continuation(
    ids: tuple[int, ...], rendered: Rendered, option: str, tokenizer: PreTrainedTokenizerBase
) -> tuple[int, ...]:
    joint = _tokenize(rendered.prompt + option, tokenizer, special=rendered.special)
    joined = len(joint) > len(ids) and joint[: len(ids)] == ids
    tokens = joint[len(ids) :] if joined else _tokenize(option, tokenizer, special=False)
    if not (option.strip() and tokens):
        raise DataError(
            f"Expected an option with at least one token, got {option!r} after {rendered.prompt[-40:]!r}; fill it in."
        )
    return tokens


def _in_common(option: Sequence[int], begun: Sequence[int]) -> int:
    """How many tokens both begin with: one that reaches over the boundary is scored, and one is in any case."""
    same = [a == b for a, b in zip(option[:-1], begun, strict=False)]
    return [*same, False].index(False)


def _tokenize(text: str, tokenizer: PreTrainedTokenizerBase, *, special: bool) -> tuple[int, ...]:
    # verbose=False: lengths are checked here, with an error, so the tokenizer's own remark on them is not wanted.
    return tuple(tokenizer(text, add_special_tokens=special, verbose=False)["input_ids"])


def _check_length(
    prompt: int, option: int, tokenizer: PreTrainedTokenizerBase, max_length: int | None, text: str = ""
) -> None:
    limit = tokenizer.model_max_length if max_length is None else max_length
    if prompt + option > limit:
        got = f"{prompt} of the prompt and {option} of the longest option ({prompt + option})"
        shown = text if len(text) <= SHOWN else f"{text[:SHOWN]}…"
        what = f"{prompt} of {shown!r}; shorten it." if text else f"{got}; shorten the text or use fewer shots."
        raise DataError(f"Expected at most {limit} tokens, the model's context, got {what}")


def _length(normalize: Normalize) -> Callable[[str, tuple[int, ...]], float]:
    if normalize == "tokens":
        return lambda option, tokens: float(len(tokens))
    if normalize == "characters":
        return lambda option, tokens: float(len(option.strip()))
    if normalize == "none":
        return lambda option, tokens: 1.0
    raise SettingError(f"Expected normalize to be one of {get_args(Normalize)}, got {normalize!r}.")
