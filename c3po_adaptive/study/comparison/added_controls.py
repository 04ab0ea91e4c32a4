"""What an arm's gain has to go beyond, and what it could have reached, as arms that say so."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields
from functools import cached_property

from ...errors import PluginError
from ...optimizers.base import SteppingOptimizer, one_for_all_of
from ...registry import Registry
from ...remixing.strategies import Strategies
from ...storage.identity import digest
from ..arms import Arm
from .comparison_config import CONSTANT, ComparisonConfig

Values = dict[str, object]
"""Of an arm, plain ones."""


def with_controls(config: ComparisonConfig, registry: Registry) -> ComparisonConfig:
    """A comparison with the controls and the upper bound of each arm that is ``controlled``; one whose name is taken is
    that arm, so that what has them already stays as it is.

    An arm that learns from labels gets those drawn at random. One that re-mixes gets changes of the same size in random
    directions, if it looks at those that were retrieved and says how many, as many random neighbours, if it says how
    many layers it takes, as many random ones, and if it learned from rewards or from gradients, what learned from
    random ones, or from those of others. One that takes steps along a loss gets its oracle, which is no control: it is
    the arm with the label known.

    Arms whose controls would answer alike, as they differ in nothing that these use, share one of them, and its oracle
    likewise: repeated, it would take its time, and count once more in Holm's correction.

    Beside all of them stand the base with its scores corrected by a logit of surface features, the core experts mixed
    without a step, and one change for all questions, by the first arm's steps; an arm with other steps gets one by its
    own, and one that does not say who takes its steps once gets none.

    Raises:
        UnknownNameError: a strategy that does not exist.
        SettingError: a parameter that does not, or a name of an arm that is not there with the controls either.
        PluginError: an optimizer's ``one_for_all`` names none that changes all questions alike.
    """
    return config.with_all_arms(_added(config, registry)[0]) if config.controlled else config


def shared_in_words(config: ComparisonConfig, registry: Registry) -> list[str]:
    """Of a comparison with its controls: which arms several share."""
    several: dict[str, list[str]] = {}
    for name, same in _added(config, registry)[1].items():
        several.setdefault(same, []).append(name)
    return [f"shared: {same} is also {' and '.join(names)}; they would answer alike" for same, names in several.items()]


def _added(config: ComparisonConfig, registry: Registry) -> tuple[dict[str, Arm], dict[str, str]]:
    """All arms with controls, and for each control that is not among them the arm that answers as it would."""
    arms, shared = dict(config.arms), dict[str, str]()
    there = [name for name, arm in arms.items() if arm.control_of or name.partition(", ")[0] in config.controlled]
    there = [name for name in reversed(there) if name not in config.controlled]
    known = {Controlled(arms[name], registry).answers_depend_on: name for name in there}

    def add(called: str, arm: Arm) -> None:
        if called in arms:
            return
        same = known.setdefault(Controlled(arm, registry).answers_depend_on, called)
        if same == called or config.is_named(called):
            arms[called] = arm
            return
        shared[called] = same
        if more := [name for name in arm.control_of if name not in arms[same].control_of]:
            arms[same] = Controlled(arms[same], registry).with_values({"control_of": (*arms[same].control_of, *more)})

    for name in config.controlled:
        controlled = Controlled(config.arms[name], registry)
        for control, values in controlled.own():
            add(f"{name}, {control}", controlled.with_values(values | {"control_of": (name,)}))
        for bound, values in controlled.bound():
            add(f"{name}, {bound}", controlled.with_values(values))
        for control, values in controlled.of_all():
            arms.setdefault(control, controlled.with_values(values))
        once = controlled.once
        if once and controlled.re_mixes and Controlled(arms[CONSTANT], registry).once != once:
            add(f"{name}, {CONSTANT}", controlled.with_values({"optimizer": once}))
    return arms, shared


@dataclass(frozen=True)
class Controlled:
    """An arm that gets its controls: what each of them changes, by its name."""

    arm: Arm
    registry: Registry

    def with_values(self, values: Mapping[str, object]) -> Arm:
        """The arm with other values."""
        return Arm(**{**self.arm.model_dump(exclude_unset=True), **values})

    @property
    def answers_depend_on(self) -> str:
        """All that its answers depend on, as one hash."""
        answerer = self.registry.create("answerer", self.arm.answerer)
        used = answerer.used(self._made)
        parts = [answerer, *(part for role, part in vars(self._made).items() if role in used)]
        settings = self.arm.remixing.model_dump(include={*used, "seed", "max_similarity"})
        return digest([[*map(self.registry.describe, parts)], settings, self.arm.draws])

    @property
    def re_mixes(self) -> bool:
        """Whether its optimizer answers."""
        return self.arm.name_of("answerer") == "remix"

    def own(self) -> Iterator[tuple[str, Values]]:
        """Those that are alike in all but what is drawn at random."""
        used = self.registry.create("answerer", self.arm.answerer).used(self._made)
        if "labels" in used and (self._made.needs_references or not self.re_mixes):  # else any would do alike
            yield "shuffled labels", {"labels": "shuffled"}
        if self.re_mixes:
            k = getattr(self._made.retriever, "k", None)
            if self._made.shows_neighbours and k is not None:
                yield "random neighbours", {"retriever": {"name": "random", "k": k}}
            yield "random change", {"optimizer": {"name": "random-change", "of": self.arm.optimizer}}
            yield from self._layers()
            yield from self._learned()

    def bound(self) -> Iterator[tuple[str, Values]]:
        """What its steps reach where the label is known."""
        if self.re_mixes and isinstance(self._made.optimizer, SteppingOptimizer):
            yield "oracle", {"optimizer": {"name": "oracle", "of": self.arm.optimizer}}

    def of_all(self) -> Iterator[tuple[str, Values]]:
        """Those that all arms share."""
        remix = {"answerer": "remix"}
        if self.once is not None:
            yield CONSTANT, remix | {"optimizer": self.once or {"name": CONSTANT}}
        yield "calibrated", {"answerer": "surface-logit", "optimizer": "none"}
        yield "core mixed", remix | {"optimizer": {"name": "none", "start": "core"}}

    @cached_property
    def once(self) -> Values | None:
        """What takes its steps once for all questions; {}: there is none; None: it does not say.

        Raises:
            PluginError: what it names does not change all questions alike.
        """
        name = one_for_all_of(self._made.optimizer)
        if not name:
            return None if name is None else {}
        shared = self.registry.get("optimizer", name) if name in self.registry.names("optimizer") else None
        once = {} if shared is None else {"name": name, **self._some("optimizer", *(f.name for f in fields(shared)))}
        if not once or self.registry.create("optimizer", once).changes != "same":
            raise PluginError(
                f"Expected one_for_all of optimizer {self.arm.name_of('optimizer')!r} to name one that changes all "
                f'questions alike (changes: "same"), such as {CONSTANT}, got {name!r}; correct the plugin.'
            )
        return once

    def _layers(self) -> Iterator[tuple[str, Values]]:
        """Random layers, as many; none of what takes all, or as many as each question asks for."""
        known = self._some("selector", "layers", "n", "experts")
        listed = known.pop("layers", None)
        if isinstance(listed, list):
            known["n"] = len(listed)
        if listed != "all" and known.get("n") is not None:
            yield "random layers", {"selector": {"name": "random", **known}}

    def _learned(self) -> Iterator[tuple[str, Values]]:
        """What learned, from nothing: a policy from random rewards, teachers and weights from gradients of others."""
        if self._some("selector", "reward"):
            yield "random rewards", {"selector": self._spec("selector") | {"reward": "random"}}
        for role in ("retriever", "kernel"):
            if self._some(role, "shuffled"):
                yield f"shuffled {role}", {role: self._spec(role) | {"shuffled": True}}

    @cached_property
    def _made(self) -> Strategies:
        return self.registry.strategies(self.arm.specs)

    def _some(self, role: str, *names: str) -> Values:
        """Those parameters of a strategy that it has, as set or by default."""
        described = self.registry.describe(getattr(self._made, role))
        return {name: value for name, value in described.items() if name in names and name != "name"}

    def _spec(self, role: str) -> Values:
        spec = self.arm.specs[role]
        return dict(spec) if isinstance(spec, dict) else {"name": spec}
