"""Which arms are controls of which, as their settings say: the same arm with one thing left to chance or left out, and
what the same labels or no steps at all would do, which every arm stands beside.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

Setting = Mapping[str, Any]

CALIBRATED = ("length-exponent", "surface-logit", "pmi", "contextual")
"""Answerers that correct scores, and change nothing in the model."""
POSITIVE = ("lora", "in-context", "sound-routing")
"""Answerers that gain where there is something to learn from labels, or a planted fault to undo: where they do not,
nothing else need."""
RANDOM_NEIGHBOURS = "random neighbours"
_CHANCE = (
    ("retriever", "name", "random", RANDOM_NEIGHBOURS),
    ("retriever", "shuffled", True, "teachers learned from others' gradients"),
    ("kernel", "shuffled", True, "weights learned from others' gradients"),
    ("selector", "name", "random", "random layers"),
    ("selector", "reward", "random", "rewards drawn at random"),
    ("optimizer", "name", "random-change", "changes in random directions"),
)
"""Role, parameter and value that leave something to chance; and what, in words."""


def left_to_chance(setting: Setting) -> list[str]:
    """What an arm draws at random that others choose, or learn, in words."""
    said = [words for role, key, value, words in _CHANCE if value in _values(setting.get(role), key)]
    return said + ["labels drawn at random"] * (setting.get("labels") == "shuffled")


def positive_control(setting: Setting) -> bool:
    """Whether an arm is known to gain where labels can be learned from at all."""
    return _name(setting, "answerer") in POSITIVE


def only_a_control(setting: Setting) -> bool:
    """Whether an arm leaves something to chance, or takes no step: nobody would answer questions by it."""
    return bool(left_to_chance(setting)) or _no_step(setting)


def controls_of(arm: str, settings: Mapping[str, Setting], named: Iterable[str] = ()) -> list[str]:
    """The arms that an arm's gain has to be told from.

    Its own are alike in all but one thing that they draw at random: the retriever (of as many neighbours), the selector
    (of as many layers and experts), what either learned from, the labels, or the direction of the change. All arms
    share the core mixed without a step, one change for all questions (``constant``), and the base with its scores
    corrected (``CALIBRATED``); but the last has none of the three, and the one before it the other two. Where an arm's
    scores are corrected, so are its controls', and it shares what is not corrected as well.

    Args:
        arm: its name.
        settings: of all arms that answered the same questions.
        named: others, as a configuration names them; those that did not answer are left out.
    """
    own = settings[arm]
    if only_a_control(own) or _plain(own):
        return []
    others = {name: setting for name, setting in settings.items() if name != arm}
    found = [name for name, setting in others.items() if _twin(own, setting) or _shared(own, setting)]
    return list(dict.fromkeys([*found, *(name for name in named if name in others)]))


def _twin(own: Setting, other: Setting) -> bool:
    """Whether the other draws one thing, and is the same in all else."""
    differing = {key for key in own.keys() | other.keys() if own.get(key) != other.get(key)} - {"seed"}
    if len(differing) != 1 or len(left_to_chance(other)) != 1:
        return False
    (role,) = differing
    if role == "optimizer":
        return bool(_part(other, role, "of") == own.get(role))
    if role in ("retriever", "selector") and _name(other, role) == "random":
        return _as_many(own, other, role)
    learned = [key for of, key, _, _ in _CHANCE if of == role and key != "name"]
    return role == "labels" or any(_without(own[role], key) == _without(other[role], key) for key in learned)


def _as_many(own: Setting, other: Setting, role: str) -> bool:
    """Whether what is drawn is of the same number; what does not go by numbers, such as a radius, has none."""
    if role == "retriever":
        return _part(own, role, "k") in (None, _part(other, role, "k"))
    layers = _part(own, role, "layers")
    number = len(layers) if isinstance(layers, list) else _part(own, role, "n")
    as_many = layers != "all" and number in (None, _part(other, role, "n"))
    return as_many and _part(own, role, "experts") == _part(other, role, "experts")


def _shared(own: Setting, other: Setting) -> bool:
    if left_to_chance(other) or _calibrated_base(own):
        return False
    if _calibrated(other) and other.get("answerer") != own.get("answerer"):
        return _calibrated_base(other)
    alike = _constant(own) and _calibrated(own) == _calibrated(other)
    return _no_step(other) or _calibrated_base(other) or (_constant(other) and not alike)


def _constant(setting: Setting) -> bool:
    return ("answerer" not in setting or _calibrated(setting)) and _name(setting, "optimizer") == "constant"


def _calibrated(setting: Setting) -> bool:
    return _name(setting, "answerer") in CALIBRATED


def _calibrated_base(setting: Setting) -> bool:
    of = _part(setting, "answerer", "of")
    of = of.get("name") if isinstance(of, Mapping) else of
    base = of in (None, "remix") and _name(setting, "optimizer") in (None, "none")
    return base and _calibrated(setting)


def _no_step(setting: Setting) -> bool:
    return _plain(setting) and _part(setting, "optimizer", "start") == "core"


def _plain(setting: Setting) -> bool:
    return "answerer" not in setting and _name(setting, "optimizer") == "none"


def _name(setting: Setting, role: str) -> str | None:
    spec = setting.get(role)
    name = spec.get("name") if isinstance(spec, Mapping) else spec
    return None if name is None else str(name)


def _part(setting: Setting, role: str, key: str) -> Any:
    spec = setting.get(role)
    return spec.get(key) if isinstance(spec, Mapping) else None


def _values(spec: Any, key: str) -> list[Any]:
    """Of a parameter, in a strategy and in those that it is made of; the name is the strategy's own."""
    if not isinstance(spec, Mapping):
        return [spec] if key == "name" else []
    if key == "name":
        return [spec.get(key)]
    parts = [part for value in spec.values() for part in (value if isinstance(value, list) else [value])]
    inside = [value for part in parts if isinstance(part, Mapping) for value in _values(part, key)]
    return [spec[key], *inside] if key in spec else inside


def _without(spec: Any, key: str) -> Any:
    """A strategy's description without a parameter, there and in those that it is made of."""
    if isinstance(spec, list):
        return [_without(part, key) for part in spec]
    if not isinstance(spec, Mapping):
        return spec
    return {name: _without(value, key) for name, value in spec.items() if name != key}
