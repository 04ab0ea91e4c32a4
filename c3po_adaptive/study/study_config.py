"""What configurations of studies share: reading YAML, the model and the data sets."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, ClassVar, Self, get_args

import yaml
from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    model_validator,
)

from ..errors import SettingError, UnknownNameError, disk_says, suggestion
from ..references.embedding import NAME
from ..settings import RemixSettings, Settings
from ..storage.files import check_there
from ..tasks.formats import Format, as_format
from ..types import Question, Score

EXAMPLE = "studies/demo/config.yaml"
"""Of the repository: a configuration, for messages."""
Spec = str | dict[str, Any]
"""A strategy by its name, or by a mapping of its name and parameters."""


class _Loader(yaml.SafeLoader):
    """Reads 1e-3 as a number, as YAML 1.2 does; PyYAML knows 1.1, where it is text. Keys are text."""

    def construct_object(self, node: Any, deep: bool = False) -> Any:
        """At once, whatever is inside: so a list that holds itself is refused."""
        return super().construct_object(node, deep=True)

    def construct_mapping(self, node: Any, deep: bool = False) -> dict[Any, Any]:
        """With numbers as keys turned into text, as JSON does."""
        return {str(key): value for key, value in super().construct_mapping(node, deep).items()}

    def construct_scalar(self, node: Any) -> Any:
        """Of whole characters."""
        value = super().construct_scalar(node)
        value.encode()
        return value

    def construct_yaml_int(self, node: Any) -> int:
        """Of 64 bits, as all that is stored."""
        value: int = super().construct_yaml_int(node)
        if not -(2**63) <= value < 2**63:
            raise yaml.constructor.ConstructorError(None, None, "a whole number beyond 64 bits", node.start_mark)
        return value


_Loader.add_constructor("tag:yaml.org,2002:int", _Loader.construct_yaml_int)
_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(r"[-+]?(\d+\.?\d*|\.\d+)[eE][-+]?\d+$"), list("-+.0123456789")
)


def _ascending(share: tuple[float, float]) -> tuple[float, float]:
    if not 0 <= share[0] < share[1] <= 1:
        raise ValueError(f"expected a share [a, b) with 0 <= a < b <= 1, got {list(share)}")
    return share


Share = Annotated[tuple[float, float], AfterValidator(_ascending)]
"""A part of a source, by a hash of the questions' ids."""


def _known(format: Spec) -> Spec:
    spec: Spec = {"name": "cloze", **format} if isinstance(format, dict) else format
    as_format(spec)
    return spec


Put = Annotated[Spec, AfterValidator(_known)]
"""How questions are put: a format."""


def _scored(score: object) -> object:
    if score not in get_args(Score):
        raise ValueError(f"expected a way to score, got {score!r}; {suggestion(str(score), get_args(Score))}")
    return score


FILTER = RemixSettings().max_similarity
"""The cosine above which references are not used by default: crafted texts stay below it."""


class Poison(Settings):
    """What is wrong with a data set on purpose.

    Attributes:
        attack: what was done, by the name of a plugin's attack: ``flipped-labels``, ``near-duplicates``,
            ``crafted-neighbours``, ``typos``, ``second-topic`` or ``long-preamble``, of ``plugins/poison``, say.
        share: of all references that are poisoned, those that were added counted; or of the questions, where these are
            distracted. What a smaller share poisons, a larger one poisons, too.
        seed: of what is drawn.
        similarity: how near a crafted text has to come to its question, as a cosine; one that does not is not added.
        budget: texts that may be embedded for each crafted one.
    """

    called: ClassVar[str] = "a data set's poison"

    attack: str
    share: Annotated[float, Field(ge=0, le=1)]
    seed: int = Field(default=0, ge=0)
    similarity: Annotated[float, Field(gt=0, le=FILTER)] = 0.8
    budget: int = Field(default=32, ge=1)


@dataclass(frozen=True)
class Poisoned:
    """A data set after an attack.

    Attributes:
        questions: that are asked.
        references: that may be learned from: those that there were, in their order, under any labels, and behind them
            what was added. Of these alone the model is run again.
        told: what was done, in a sentence.
    """

    questions: Sequence[Question]
    references: Sequence[Question]
    told: str


class Dataset(Settings):
    """Test questions and the references beside them.

    Attributes:
        name: what it is called in results.
        questions: ``demo``, a JSON(L) file, a folder, or a benchmark's name; see ``c3po_adaptive.tasks.questions``.
        split: which split of them; by default ``test``, or else ``validation``, where the source has splits.
        limit: how many of them, spread over the source.
        share: only questions whose id's hash (SHA-256, as a number from 0 to 1) lies in [a, b).
        references: sources of labeled questions, named as ``questions`` are, or the folder of a built set;
            ``name:split`` names a split of its own.
        references_split: which split of those; by default the first of ``references``, ``train`` and ``validation``
            that a source has.
        references_limit: how many of each source.
        references_share: only references whose id's hash lies in [a, b).
        format: how these questions are put, where that is not the study's.
        score: what an answer is: the likeliest choice (``likelihood``), or the choice that the model writes
            (``generated``): greedily, the first line that says something; the text of a choice, or with the format
            ``letter`` the first letter of one that stands alone. Scores, and what is learned from references, are
            likelihoods in either.
        references_draw: which so many: 0 the first, 1 the next, and so on, in one order on every machine. They have
            none in common while the source lasts, and go on from its beginning where it ends.
        poison: what is wrong with them on purpose: ``{attack: flipped-labels, share: 0.3}``.
    """

    name: str
    questions: str
    split: str | None = None
    limit: int | None = Field(default=None, ge=1)
    share: Share | None = None
    references: tuple[str, ...] = ()
    references_split: str | None = None
    references_limit: int | None = Field(default=None, ge=1)
    references_share: Share | None = None
    format: Put | None = None
    score: Annotated[Score, BeforeValidator(_scored)] = "likelihood"
    references_draw: int = Field(default=0, ge=0)
    poison: Poison | None = None

    @model_validator(mode="after")
    def _drawn_of_a_limit(self) -> Self:
        if self.references_draw and self.references_limit is None:
            raise ValueError("expected references_limit beside references_draw, got none: all are one draw")
        return self


DEMO = Dataset(name="demo", questions="demo", split="test", references=("demo",), references_split="references")


def _told_apart(datasets: tuple[Dataset, ...]) -> tuple[Dataset, ...]:
    names = [d.name for d in datasets]
    if not names or len(set(names)) != len(names) or "all" in names:
        raise ValueError(f"expected data sets of different names, none of them 'all' (their mean), got {names}")
    return datasets


Datasets = Annotated[tuple[Dataset, ...], AfterValidator(_told_apart)]


class OnQuestions(RemixSettings):
    """What a study of a model's answers says beside what it compares.

    Its settings hold for every arm that does not say otherwise.

    Attributes:
        model: an alias, a Hub id or a folder.
        dtype: of the weights.
        revision: of a Hub id.
        device: where the model goes.
        quantize: ``4bit`` or ``8bit``.
        datasets: what is asked, and what may be learned from.
        format: how questions are put.
        embedder: of retrieval: a sentence-transformers model, by its Hub id or folder; or ``model``: the model's own
            features, of images, too.
        batch_size: questions that are answered together.
        written: whether this kind of study knows answers that the model writes.
    """

    written: ClassVar[bool] = False
    instead: ClassVar[Mapping[str, str]] = dict.fromkeys(
        ("plugin", "plugins"), "give --plugin FILE on the command line."
    )

    model: str = "smollm2-moe"
    dtype: str = "auto"
    revision: str | None = None
    device: str | None = None
    quantize: str | None = None
    datasets: Datasets = (DEMO,)
    format: Put = "cloze"
    embedder: str = NAME
    batch_size: int = Field(default=32, ge=1)

    @model_validator(mode="after")
    def _can_be_written(self) -> Self:
        for name in (d.name for d in self.datasets if d.score == "generated"):
            if not self.written:
                raise ValueError(f"expected score: likelihood of {name!r}, got generated, which comparisons alone have")
            if (token := self.format_of(name).token) != "last":
                raise ValueError(
                    f"expected token: last of {name!r}, whose answers are generated behind the last token, got {token}"
                )
        return self

    def format_of(self, dataset: str) -> Format:
        """How the questions of a data set are put: in its own format, or the study's."""
        (own,) = (d.format for d in self.datasets if d.name == dataset)
        return as_format(self.format if own is None else own)


def of_datasets(config: Any, names: Sequence[str]) -> Any:
    """A configuration with some of its data sets; with no names all of them.

    Raises:
        UnknownNameError: a data set that it does not have.
    """
    if not names:
        return config
    known = {dataset.name: dataset for dataset in getattr(config, "datasets", ())}
    for name in names:
        if name not in known:
            hint = suggestion(name, known, "name one of these.")
            raise UnknownNameError(f"Expected a data set of the configuration, got {name!r}; {hint}")
    return config.model_copy(update={"datasets": tuple(known[name] for name in dict.fromkeys(names))})


def read_yaml(path: Path | str) -> dict[str, Any]:
    """Keys and values of a configuration.

    Raises:
        SettingError: no such file, or no YAML of that kind.
    """
    check_there(path, "a YAML configuration", f"see {EXAMPLE}", SettingError)
    try:
        raw = yaml.load(Path(path).read_text(encoding="utf-8"), _Loader) or {}
    except (OSError, ValueError, LookupError, AttributeError, RecursionError, yaml.YAMLError) as error:
        # Of bytes that are no text, dates that are none, and values with tags, PyYAML lets through what Python says.
        said = "lists or keys nested too deeply" if isinstance(error, RecursionError) else disk_says(error)
        raise SettingError(f"Expected a YAML configuration at {path}, got: {said}; see {EXAMPLE}.") from None
    if not isinstance(raw, dict):
        raise SettingError(f"Expected {path} to hold keys and values, got {type(raw).__name__}; see {EXAMPLE}.")
    return raw


def read_value(text: str) -> Any:
    """A value as YAML has it; what the reader raises where it is none, the caller knows."""
    return yaml.load(text, _Loader)
