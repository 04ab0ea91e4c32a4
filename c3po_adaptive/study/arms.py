"""An arm is whatever answers questions: an answerer with the strategies it may use, by name, and its settings."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from pydantic import Field, ValidationInfo, field_serializer, field_validator, model_validator

from .. import elsewhere
from ..errors import UnknownNameError, suggestion
from ..remixing.presets import PRESETS, preset_named
from ..settings import RemixSettings
from .overrides import parsed
from .study_config import OnQuestions, Spec, read_yaml

if TYPE_CHECKING:
    from ..registry import Registry

ROLES = ("answerer", "optimizer", "kernel", "retriever", "selector")


class Arm(RemixSettings):
    """What answers, and how.

    Each is a name, or ``{name: …, parameter: …}``.

    Attributes:
        answerer: who answers; the remixer, unless said otherwise.
        optimizer: how pathways are re-mixed.
        kernel: how neighbours are weighed.
        retriever: which references are neighbours.
        selector: which layers and experts are re-mixed.
        control_of: names of the arms that it is a control of: alike in all but one thing that it leaves to chance. What
            is a control of every arm (one change for all, corrected scores of the base, no step) need not say so.
        draws: how often it answers each question, each time by the next seed: a control that is drawn at random says
            more in many draws, and by 99 of them an arm gets a p among them.
        preset: strategies and settings that go together (``c3po``, ``c3po-tuned``, ``nearest``), below what the arm
            says itself; parameters without a name are of the preset's strategy. A run's records have them one by one.
    """

    called: ClassVar[str] = "settings of an arm"
    instead: ClassVar[Mapping[str, str]] = {"rule": "write answerer: {name: rule, rule: …}."}

    answerer: Spec = "remix"
    optimizer: Spec = "ngd"
    kernel: Spec = "gaussian"
    retriever: Spec = "faiss-knn"
    selector: Spec = "fixed"
    control_of: tuple[str, ...] = ()
    draws: int = Field(default=1, ge=1)
    preset: str | None = Field(default=None, exclude=True)

    @model_validator(mode="before")
    @classmethod
    def _on_a_preset(cls, value: Any) -> Any:
        return _on_its_preset(value) if isinstance(value, Mapping) else value

    @field_validator(*ROLES, mode="before")
    @classmethod
    def _named(cls, value: Any, info: ValidationInfo) -> Any:
        """Parameters alone belong to the default strategy: ``optimizer: {steps: 5}``."""
        default = cls.model_fields[str(info.field_name)].default
        return {"name": default, **value} if isinstance(value, dict) else value

    @property
    def specs(self) -> dict[str, Spec]:
        """What each role is played by."""
        return {name: getattr(self, name) for name in ROLES}

    def name_of(self, role: str) -> str:
        """Of what plays a role."""
        spec = self.specs[role]
        return spec if isinstance(spec, str) else str(spec["name"])

    @property
    def leaves_the_model_alone(self) -> bool:
        """Whether it is a base, which gains are measured against."""
        start = self.optimizer.get("start", "own") if isinstance(self.optimizer, dict) else "own"
        return self.name_of("answerer") == "remix" and self.name_of("optimizer") == "none" and start == "own"

    def plain_in(self, run: RemixSettings) -> dict[str, object]:
        """Plain values, without the settings that are the run's."""
        values = self.model_dump(mode="json")
        return {k: v for k, v in values.items() if k not in RemixSettings.model_fields or v != getattr(run, k)}

    def apart_from(self, run: RemixSettings) -> dict[str, object]:
        """The settings that identify it in a run's results: seed and filter only where they are not the run's."""
        values = self.remixing.model_dump()
        common = {"seed", "max_similarity"}
        return {k: v for k, v in values.items() if k not in common or v != getattr(run, k)}


def in_a_run(arms: Any, run: Mapping[str, object]) -> Any:
    """Plain values of arms, with a run's settings where they say nothing themselves."""
    common = {name: run[name] for name in RemixSettings.model_fields if name in run}
    if not isinstance(arms, Mapping):
        return arms
    plain = {name: arm.model_dump(exclude_unset=True) if isinstance(arm, Arm) else arm for name, arm in arms.items()}
    return {name: common | _on_its_preset(arm) if isinstance(arm, Mapping) else arm for name, arm in plain.items()}


def _on_its_preset(arm: Mapping[str, Any]) -> dict[str, Any]:
    """Plain values of an arm, with those of the preset that it names where it says nothing itself.

    Raises:
        UnknownNameError: there is no such preset.
    """
    own = dict(arm)
    if (name := own.pop("preset", None)) is None:
        return own
    usual = preset_named(name)
    specs = {role: {"name": spec} if isinstance(spec, str) else spec for role, spec in usual.specs.items()}
    unnamed = [role for role in specs if isinstance(own.get(role), Mapping) and "name" not in own[role]]
    return {**usual.specs, **usual.settings, **own, **{role: {**specs[role], **own[role]} for role in unnamed}}


class OnOneArm(OnQuestions):
    """What a study says that varies parts of one arm.

    Attributes:
        arm: how questions are re-mixed where the study does not vary it; its settings are the study's unless it says
            otherwise.
    """

    arm: Arm = Arm()

    @model_validator(mode="before")
    @classmethod
    def _settings_of_the_study(cls, value: Any) -> Any:
        if not isinstance(value, Mapping):
            return value
        return {**value, "arm": in_a_run({"arm": value.get("arm", {})}, value)["arm"]}

    @field_serializer("arm")
    def _plain_arm(self, arm: Arm) -> dict[str, object]:
        """Settings that are the study's stand there alone."""
        return arm.plain_in(self)


def parse_arm(arm: Arm, settings: Sequence[str]) -> Arm:
    """An arm with ``key.key=value`` settings on top.

    Raises:
        SettingError: an unknown key, or a value of the wrong kind; the key is named.
    """
    return parsed(Arm, arm.model_dump(mode="json"), settings)


DEMO = read_yaml(Path(__file__).with_name("demo.yaml"))
"""The configuration that ``c3po demo`` runs, in plain values."""
PAPER = PRESETS["c3po"].settings
DEMO_ARMS: Mapping[str, Arm] = {name: Arm(**values) for name, values in DEMO["arms"].items()}


def arms_by_name(names: list[str], registry: Registry) -> dict[str, Arm]:
    """Some of the demo's arms; any other optimizer's name is an arm in the paper's setting, any other selector's one of
    NGD in the layers that it selects, and any other retriever's or kernel's one of NGD with its neighbours, or weighed
    by it: alike in all but that one thing to the demo's ``ngd``. Any other answerer's is one that it answers, and a
    rule's, or a rule's text, one along it.

    Raises:
        UnknownNameError: a name that is none of them.
    """
    rules = registry.names("rule")
    texts = [*rules, *(name for name in names if re.split("[:@;]", name)[0] in rules)]
    known = {text: Arm(answerer={"name": "rule", "rule": text}) for text in texts}
    known |= {name: Arm(kernel=name, **PAPER) for name in registry.names("kernel")}
    known |= {name: Arm(retriever=name, **PAPER) for name in registry.names("retriever")}
    known |= {name: Arm(answerer=name) for name in registry.names("answerer") if name != "remix"}
    known |= {name: Arm(selector=name, **PAPER) for name in registry.names("selector")}
    known |= {name: Arm(optimizer=name, **PAPER) for name in registry.names("optimizer")} | dict(DEMO_ARMS)
    for name in names:
        if name not in known:
            listed = f"by c3po plugins list, beside the demo's {', '.join(DEMO_ARMS)}"
            hint = elsewhere.where(name) or suggestion(name, known, "name one of these.", listed)
            raise UnknownNameError(f"Expected the name of an arm, got {name!r}; {hint}")
    run = {name: [own for own in known[name].control_of if own in names] for name in names}
    return {name: Arm(**known[name].model_dump(exclude_unset=True) | {"control_of": run[name]}) for name in names}
