"""An arm's setting: what plays each role, how pathways act, and what the arm is there for, in its own words."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from pydantic import ConfigDict, SerializerFunctionWrapHandler, model_serializer

from ..types import Changes
from .base import Part


class Described(Part):
    """A strategy: its name, and its parameters beside it, whatever they are called."""

    model_config = ConfigDict(extra="allow")

    name: str

    def parameter(self, name: str) -> Any:
        """A parameter's value; None: it has none of that name."""
        return (self.model_extra or {}).get(name)

    def number(self, name: str) -> float | None:
        """A parameter's value where it is a number; None: it has no such parameter, or a plugin's of another kind."""
        value = self.parameter(name)
        return value if isinstance(value, int | float) else None


class Setting(Part):
    """the setting of an arm

    What an arm does not use is None; of an arm on several data sets, what is not the same on all is left out, too.

    Attributes:
        answerer: who answers; None: the remixer.
        control_of: names of the arms that it is a control of: alike in all but what it varies.
        varies: what it leaves to chance that others choose or learn, in words, as its strategies say.
        changes: what becomes of pathways.
        one_for_all: of an optimizer, the name of the one that takes its steps once for all questions; "": there is
            none; None: it takes steps and does not say.
        calibrates: whether it corrects scores.
        positive: whether it is known to gain where labels can be learned from, or a planted fault undone.
    """

    answerer: Described | None = None
    optimizer: Described | None = None
    kernel: Described | None = None
    retriever: Described | None = None
    selector: Described | None = None
    scope: str | None = None
    transfer: str | None = None
    loss: str | None = None
    head: str | None = None
    mix: str | None = None
    pathway: str | None = None
    gradient: str | None = None
    learn_from: str | None = None
    labels: str | None = None
    max_similarity: float | None = None
    seed: int | None = None
    control_of: tuple[str, ...] = ()
    varies: tuple[str, ...] = ()
    changes: Changes = "each"
    one_for_all: str | None = ""
    calibrates: bool = False
    positive: bool = False

    @model_serializer(mode="wrap")
    def _what_is_said(self, plain: SerializerFunctionWrapHandler) -> dict[str, object]:
        found: Mapping[str, object] = plain(self)
        fields = type(self).model_fields
        return {name: value for name, value in found.items() if getattr(self, name) != fields[name].default}

    @property
    def by(self) -> str:
        """Name of who answers: the optimizer, or an answerer of its own."""
        made = self.answerer or self.optimizer
        return "" if made is None else made.name

    @property
    def no_step(self) -> bool:
        """Whether it mixes the core, and no more."""
        return self.changes == "core" and not self.calibrates

    @property
    def calibrated_base(self) -> bool:
        """Whether it corrects the base's scores, and no more."""
        return self.changes == "nothing" and self.calibrates

    @property
    def plain(self) -> bool:
        """Whether it takes no step and corrects nothing."""
        return self.changes in ("core", "nothing") and not self.calibrates

    @property
    def chooses_layers(self) -> bool:
        """Whether its selector leaves some out."""
        return self.selector is not None and self.selector.parameter("layers") != "all"

    @property
    def only_a_control(self) -> bool:
        """Whether it leaves something to chance, or takes no step: nobody would answer questions by it."""
        return bool(self.varies) or self.no_step


def common(settings: Iterable[Setting]) -> Setting:
    """What all of them have in common."""
    first, *rest = {id(one): one for one in settings}.values()  # one object may stand for all records of an arm
    return Setting(**{name: value for name, value in first if all(getattr(one, name) == value for one in rest)})
