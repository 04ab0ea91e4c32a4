"""What a run is: model, data sets, arms; from YAML, with ``--set key=value`` on top."""

from __future__ import annotations

import copy
import re
from collections.abc import Sequence
from functools import reduce
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

import yaml
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from .arms import DEMO_ARMS, Arm, Spec
from .errors import SettingError
from .tasks.formats import as_format

Kind = TypeVar("Kind", bound=BaseModel)


class _Loader(yaml.SafeLoader):
    """Reads 1e-3 as a number, as YAML 1.2 does; PyYAML knows 1.1, where it is text."""


_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(r"[-+]?(\d+\.?\d*|\.\d+)[eE][-+]?\d+$"), list("-+.0123456789")
)


class Dataset(BaseModel):
    """Test questions and the references beside them.

    Attributes:
        questions: ``demo``, a JSON(L) file, or the name of a benchmark. split, limit: which of them.
        references: sources of labelled questions, likewise; ``demo`` means the demo's references.
        references_split, references_limit: which of those.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str
    questions: str
    split: str | None = "test"
    limit: int | None = Field(default=None, ge=1)
    references: tuple[str, ...] = ()
    references_split: str | None = None
    references_limit: int | None = Field(default=None, ge=1)


DEMO = Dataset(name="demo", questions="demo", references=("demo",), references_split="references")


def _told_apart(datasets: tuple[Dataset, ...]) -> tuple[Dataset, ...]:
    names = [d.name for d in datasets]
    if not names or len(set(names)) != len(names) or "all" in names:
        raise ValueError(f"expected data sets of different names, none of them 'all' (their mean), got {names}")
    return datasets


def _known(format: Spec) -> Spec:
    spec: Spec = {"name": "cloze", **format} if isinstance(format, dict) else format
    as_format(spec)
    return spec


Datasets = Annotated[tuple[Dataset, ...], AfterValidator(_told_apart)]
Put = Annotated[Spec, AfterValidator(_known)]
"""How questions are put: a format."""


class RunConfig(BaseModel):
    """A run of several arms on the same questions.

    Attributes:
        standard: the arm that others are to come near to. headline: the one that the run is about.
        compare: pairs of arms that are compared, beside those with the base and the control.
        pathways: records hold what changed expert by expert; long runs do without.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    model: str = "smollm2-moe"
    dtype: str = "auto"
    revision: str | None = None
    device: str | None = None
    quantize: str | None = None
    datasets: Datasets = (DEMO,)
    arms: dict[str, Arm] = Field(default_factory=lambda: dict(DEMO_ARMS))
    format: Put = "cloze"
    max_similarity: float = Field(default=0.95, gt=0, le=1)
    batch_size: int = Field(default=32, ge=1)
    seed: int = 0
    standard: str | None = None
    headline: str | None = None
    compare: tuple[tuple[str, str], ...] = ()
    pathways: bool = True

    @model_validator(mode="after")
    def _arms_are_there(self) -> RunConfig:
        named = {*filter(None, (self.standard, self.headline)), *(arm for pair in self.compare for arm in pair)}
        if unknown := named - self.arms.keys():
            raise ValueError(
                f"expected standard, headline and compare to name arms among {', '.join(self.arms)}, got "
                f"{', '.join(sorted(unknown))}"
            )
        if self.standard and not self.pathways:
            raise ValueError("expected pathways: true, as standard compares changes of the pathway, got false")
        return self


class Case(BaseModel):
    """One way of re-mixing, timed against the plain answer.

    Attributes:
        optimizer, selector, retriever: the strategies.
        format, shots: how questions are put, with so many solved examples.
        model: a name of ``models``, or one that ``load_moe_model`` knows.
        batch: questions answered together. references: how many there are. warm: their states are on disk beforehand.
        textbook: every step runs the neighbours' whole prompts again; two steps are timed, and the rest scaled.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    optimizer: Spec = "ngd"
    selector: Spec = "fixed"
    retriever: Spec = "faiss-knn"
    format: Literal["letter", "cloze"] = "letter"
    shots: int = Field(default=0, ge=0)
    model: str = "smollm2-moe"
    batch: int = Field(default=32, ge=1)
    references: int = Field(default=128, ge=8)
    warm: bool = True
    textbook: bool = False


class Shape(BaseModel):
    """A random model: a family of transformers, and settings of its configuration."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    family: str
    dtype: Literal["float32", "bfloat16"] = "bfloat16"
    settings: dict[str, Any] = Field(default_factory=dict)


class Curve(BaseModel):
    """A case, over and over with other values of one of its settings.

    Attributes:
        over: the setting, as ``batch`` or ``optimizer.steps``. values: what it takes in turn. case: the rest.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    over: str
    values: tuple[Any, ...]
    case: dict[str, Any] = Field(default_factory=dict)

    def cases(self, name: str) -> dict[str, Case]:
        """A case for each value, by name and value.

        Raises:
            ValidationError: the setting is none of a case's.
        """
        found = {}
        for value in self.values:
            raw = copy.deepcopy(self.case)
            *path, key = self.over.split(".")
            reduce(lambda part, step: part.setdefault(step, {}), path, raw)[key] = value
            found[f"{name}={value}"] = Case.model_validate(raw)
        return found


class Search(BaseModel):
    """One search for neighbours, timed query by query and held against the exact one.

    Attributes:
        retriever: the strategy. references: how many: the demo's embeddings, over and over, each time moved at random
            to a cosine of about ``nearness`` with where it was. queries: how many, moved likewise.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    retriever: Spec = "faiss-ivf"
    references: int = Field(default=1_000_000, ge=100)
    nearness: float = Field(default=0.8, gt=0, le=1)
    queries: int = Field(default=200, ge=1)


class SpeedConfig(BaseModel):
    """What is timed, by name.

    Attributes:
        cases, curves, searches: see there. models: random ones. repeats: how often each case is timed.
        only: names of those cases, curves and searches that are run now; empty: all. A study too long for one sitting
            is run in parts, into one folder.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    kind: Literal["speed"]
    cases: dict[str, Case] = Field(default_factory=dict)
    curves: dict[str, Curve] = Field(default_factory=dict)
    models: dict[str, Shape] = Field(default_factory=dict)
    searches: dict[str, Search] = Field(default_factory=dict)
    repeats: int = Field(default=5, ge=1)
    only: tuple[str, ...] = ()

    @model_validator(mode="after")
    def _known(self) -> SpeedConfig:
        names = {*self.cases, *self.curves, *self.searches}
        if unknown := set(self.only) - names:
            raise ValueError(f"expected only to name some of {sorted(names)}, got {sorted(unknown)}")
        for name, curve in self.curves.items():
            curve.cases(name)
        return self

    def wanted(self, name: str) -> bool:
        """Whether it is run now."""
        return not self.only or name in self.only

    def all_cases(self) -> dict[str, Case]:
        """Cases, and those of curves, that are run now."""
        found = {name: case for name, case in self.cases.items() if self.wanted(name)}
        for name, curve in self.curves.items():
            found |= curve.cases(name) if self.wanted(name) else {}
        return found


class FaithfulnessConfig(BaseModel):
    """Which layers matter to validation questions, and which scores find them.

    Attributes:
        model, datasets, format, max_similarity, batch_size, seed: as in a run.
        arm: how questions are re-mixed; its selector is not used.
        experts: core experts of each layer, in re-mixing and in scores. scores: selectors that score layers, by name.
        neighbours: whether what layers do to the neighbours' loss is looked at, too: long, with hundreds of them.
        n: how many layers are compared as chosen. points: numbers of layers of the insertion and deletion curves.
        probed: so many questions of each data set (whole batches) are scored with other neighbours and seeds, too, and
            go through Captum's own tests. moves: of each.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    kind: Literal["faithfulness"]
    model: str = "smollm2-moe"
    dtype: str = "auto"
    revision: str | None = None
    device: str | None = None
    quantize: str | None = None
    datasets: Datasets
    arm: Arm = Arm()
    scores: dict[str, Spec]
    format: Put = "cloze"
    max_similarity: float = Field(default=0.95, gt=0, le=1)
    batch_size: int = Field(default=32, ge=1)
    experts: int = Field(default=20, ge=1)
    neighbours: bool = True
    n: int = Field(default=5, ge=1)
    points: tuple[int, ...] = (1, 3, 5, 8)
    probed: int = Field(default=32, ge=0)
    moves: int = Field(default=8, ge=1)
    seed: int = 0

    @field_validator("scores")
    @classmethod
    def _named(cls, value: dict[str, Spec]) -> dict[str, Spec]:
        taken = {"truth", "last layers", "random layers"} & value.keys()
        if not value or taken:
            raise ValueError(f"expected scores by other names than {', '.join(sorted(taken)) or '(none)'}")
        return value

    @field_validator("points")
    @classmethod
    def _rising(cls, value: tuple[int, ...]) -> tuple[int, ...]:
        if not value or list(value) != sorted(set(value)) or value[0] < 1:
            raise ValueError(f"expected rising numbers of layers from 1 on, got {list(value)}")
        return value


def load_config(path: Path | str | None, settings: Sequence[str] = ()) -> RunConfig:
    """Read a YAML file (or start from the demo's defaults) and apply ``key.key=value`` settings.

    Raises:
        SettingError: no such file, no YAML, an unknown key, or a value of the wrong kind; the key is named.
    """
    raw = {} if path is None else read_yaml(path)
    defaults = RunConfig().model_dump(mode="json")
    for setting in settings:
        key = setting.partition("=")[0].partition(".")[0]
        if "." in setting.partition("=")[0] and key in defaults:
            raw.setdefault(key, defaults[key])  # a part of it is changed, not all of it left out
        _apply(raw, setting)
    return parse_config(raw)


def read_yaml(path: Path | str) -> dict[str, Any]:
    """Keys and values of a configuration.

    Raises:
        SettingError: no such file, or no YAML of that kind.
    """
    try:
        raw = yaml.load(Path(path).read_text(encoding="utf-8"), _Loader) or {}
    except (OSError, yaml.YAMLError) as error:
        raise SettingError(f"Expected a YAML configuration at {path}, got: {error}; see studies/demo.") from error
    if not isinstance(raw, dict):
        raise SettingError(f"Expected {path} to hold keys and values, got {type(raw).__name__}; see studies/demo.")
    return raw


def load_speed_config(path: Path | str, settings: Sequence[str] = ()) -> SpeedConfig:
    """Read the YAML of a speed study and apply ``key.key=value`` settings; errors as for ``load_config``."""
    return _load(SpeedConfig, "a speed study", path, settings)


def load_faithfulness_config(path: Path | str, settings: Sequence[str] = ()) -> FaithfulnessConfig:
    """Read the YAML of a study of faithfulness; likewise."""
    return _load(FaithfulnessConfig, "a study of faithfulness", path, settings)


def _load(kind: type[Kind], what: str, path: Path | str, settings: Sequence[str]) -> Kind:
    raw = read_yaml(path)
    for setting in settings:
        _apply(raw, setting)
    return _checked(kind, what, raw)


def parse_config(raw: dict[str, Any]) -> RunConfig:
    """A checked configuration from plain values."""
    return _checked(RunConfig, "a run configuration", raw)


def parse_arm(arm: Arm, settings: Sequence[str]) -> Arm:
    """An arm with ``key.key=value`` settings on top.

    Raises:
        SettingError: an unknown key, or a value of the wrong kind; the key is named.
    """
    raw = arm.model_dump(mode="json")
    for setting in settings:
        _apply(raw, setting)
    return _checked(Arm, "settings of an arm", raw)


def _checked(kind: type[Kind], what: str, raw: dict[str, Any]) -> Kind:
    """The values as their kind; an error names every key that is wrong."""
    try:
        return kind.model_validate(raw)
    except ValidationError as error:
        found = "; ".join(f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors())
        raise SettingError(f"Expected {what} (keys {', '.join(kind.model_fields)}), got {found}.") from error


def _apply(raw: dict[str, Any], setting: str) -> None:
    key, equals, value = setting.partition("=")
    if not equals:
        raise SettingError(f"Expected --set key=value, got {setting!r}; for example --set batch_size=8.")
    *parents, last = key.split(".")
    place: Any = raw
    try:
        for parent in parents:
            step = int(parent) if isinstance(place, list) else parent
            if isinstance(place, dict) and isinstance(place.get(step), str):
                place[step] = {"name": place[step]}  # optimizer: ngd, given optimizer.steps=5
            place = place.setdefault(step, {}) if isinstance(place, dict) else place[step]
        place[int(last) if isinstance(place, list) else last] = yaml.load(value, _Loader)
    except (ValueError, IndexError, TypeError, yaml.YAMLError) as error:
        raise SettingError(
            f"Expected --set with a key that the configuration can hold and a YAML value, got {setting!r} ({error}); "
            "name a list's parts by number, as in datasets.0.limit=5."
        ) from error
