"""The configuration of a comparison: arms on data sets."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, ClassVar, Literal

from pydantic import (
    Discriminator,
    Field,
    Tag,
    field_serializer,
    field_validator,
    model_validator,
)

from ...errors import SettingError, UnknownNameError, suggestion
from ...records.summary import Unit
from ...report.published_figures import models
from ...settings import Settings
from ..arms import DEMO_ARMS, Arm, in_a_run
from ..study_config import OnQuestions

CONSTANT = "constant"
SHARED = (CONSTANT, "calibrated", "core mixed")
"""Controls that all arms share, by the names under which they are added."""


class Compared(Settings):
    """Two arms that are compared, and how.

    Attributes:
        a: one arm.
        b: the arm that is taken from it.
        primary: whether this is what the study was made to decide, named before it was run: then it is tested alone,
            without correction for the others; on several data sets, on the mean over them.
        unit: what the mean is over and what is resampled: questions, or kinds of question (of all data sets), each of
            which counts once.
    """

    called: ClassVar[str] = "a comparison of two arms"

    a: str
    b: str
    primary: bool = False
    unit: Unit = "question"

    @property
    def pair(self) -> tuple[str, str]:
        """Names of the arms."""
        return self.a, self.b


_PairOrMapping = Annotated[
    Annotated[tuple[str, str], Tag("pair")] | Annotated[Compared, Tag("mapping")],
    Discriminator(lambda value: "mapping" if isinstance(value, Mapping | Compared) else "pair"),
]


class ComparisonConfig(OnQuestions):
    """Several arms on the same questions.

    Attributes:
        kind: of study; may be left out.
        arms: what is compared, by name; one of them leaves the model alone. One that is ``null`` is left out.
        standard: the arm that others are to come near to.
        headline: the arm that the run is about.
        compare: pairs of arms that are compared, beside those with the base and with controls; or mappings, that say
            which of them are primary, and what their unit is.
        controlled: arms that get their controls, random neighbours, shuffled labels and more, and their upper bound, as
            arms beside them, once the run's plugins are loaded.
        pathways: records hold what changed expert by expert; long runs do without.
        audit: the folder of an audit of the model (``c3po audit``): what it says stands in the report, and a null
            result where nothing could have been found is *cannot tell*.
        published: the model of the paper whose published figures are drawn beside a run's own, dashed.
    """

    called: ClassVar[str] = "a run configuration"
    written: ClassVar[bool] = True

    kind: Literal["comparison"] = "comparison"
    arms: dict[str, Arm] = Field(default_factory=lambda: dict(DEMO_ARMS))
    standard: str | None = None
    headline: str | None = None
    compare: tuple[_PairOrMapping, ...] = ()
    controlled: tuple[str, ...] = ()
    pathways: bool = True
    audit: str | None = None
    published: str | None = None

    @field_validator("published")
    @classmethod
    def _reported(cls, value: str | None) -> str | None:
        if value is not None and value not in models():
            raise ValueError(
                f"expected a model that the paper reports, got {value!r}; "
                f"{suggestion(value, models(), 'leave it out.')}"
            )
        return value

    @model_validator(mode="before")
    @classmethod
    def _settings_of_the_run(cls, values: Any) -> Any:
        if not isinstance(values, Mapping):
            return values
        arms = values.get("arms", DEMO_ARMS)
        there = {name: arm for name, arm in arms.items() if arm is not None} if isinstance(arms, Mapping) else arms
        return {**values, "arms": in_a_run(there, values)}

    @model_validator(mode="after")
    def _arms_are_there(self) -> ComparisonConfig:
        if said := self._unknown([(key, arm) for key, arm in self._named if not self._may_be_added(key, arm)]):
            raise ValueError(said)
        if self.standard and not self.pathways:
            raise ValueError("expected pathways: true, as standard compares changes of the pathway, got false")
        return self

    @property
    def _named(self) -> list[tuple[str, str]]:
        """Arms, each with the key that names it."""
        named = [("standard", self.standard), ("headline", self.headline)]
        named += [("controlled", arm) for arm in self.controlled]
        named += [("compare", arm) for each in self.compared for arm in each.pair]
        named += [(f"arms.{name}.control_of", of) for name, arm in self.arms.items() for of in arm.control_of]
        return [(key, arm) for key, arm in named if arm]

    def is_named(self, arm: str) -> bool:
        """Whether the configuration says something of an arm of that name, beside what it is."""
        return any(arm == named for _, named in self._named)

    def _may_be_added(self, key: str, name: str) -> bool:
        """Whether an arm of that name may be among the controls, which are known once plugins are."""
        own = any(name.startswith(f"{arm}, ") for arm in self.controlled)
        return key != "controlled" and (own or (name in SHARED and bool(self.controlled)))

    def _unknown(self, named: Sequence[tuple[str, str]]) -> str:
        """What is wrong with names that are no arm's; "": they all are."""
        unknown = [(key, arm) for key, arm in named if arm not in self.arms]
        if not unknown:
            return ""
        listed = ", ".join(dict.fromkeys(f"{arm} ({key})" for key, arm in unknown))
        return (
            f"expected standard, headline, compare, controlled and control_of to name arms, got {listed}; "
            f"{suggestion(unknown[0][1], self.arms, 'name one of these, or leave the key out.')}"
        )

    def only(self, names: Sequence[str]) -> ComparisonConfig:
        """The same with some of its arms, and the base; with no names all of them. What is compared of others, and a
        headline or a standard that is another, goes with them.

        Raises:
            UnknownNameError: an arm that it does not have.
            SettingError: it has no base, or an arm is a control of one that goes.
        """
        for name in names:
            if name not in self.arms:
                hint = suggestion(name, self.arms, "name one of these.")
                raise UnknownNameError(f"Expected an arm of the configuration, got {name!r}; {hint}")
        if not names:
            return self
        arms = {name: arm for name, arm in self.arms.items() if name in (*names, self.baseline)}
        compare = [entry for entry, each in zip(self.compare, self.compared, strict=True) if {*each.pair} <= {*arms}]
        controlled = [name for name in self.controlled if name in arms]
        one = {key: name for key in ("standard", "headline") if (name := getattr(self, key)) in arms}
        rest = {"standard": None, "headline": None, "compare": compare, "controlled": controlled}
        return self.model_copy(update={"arms": arms} | rest | one)

    def with_all_arms(self, arms: Mapping[str, Arm]) -> ComparisonConfig:
        """The same with the arms of ``controlled`` beside those that were written.

        Raises:
            SettingError: a name of an arm that is not there either.
        """
        whole = self.model_copy(update={"arms": arms})
        if said := whole._unknown(whole._named):
            raise SettingError(f"Expected {self.called}, got {said}")
        return whole

    @field_serializer("arms")
    def _plain_arms(self, arms: dict[str, Arm]) -> dict[str, object]:
        """Settings that are the run's stand there alone, so that one that differs is named once."""
        return {name: arm.plain_in(self) for name, arm in arms.items()}

    @property
    def compared(self) -> list[Compared]:
        """What is compared, pairs as well."""
        return [each if isinstance(each, Compared) else Compared(a=each[0], b=each[1]) for each in self.compare]

    @property
    def baseline(self) -> str:
        """The arm that leaves the model alone, which gains are measured against.

        Raises:
            SettingError: there is none.
        """
        for name, arm in self.arms.items():
            if arm.leaves_the_model_alone:
                return name
        raise SettingError(
            "Expected an arm that leaves the model alone, as gains are measured against it, got "
            f"{', '.join(self.arms)}; add base: {{optimizer: none}}."
        )
