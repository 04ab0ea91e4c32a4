"""Between strategies and plain values: what a specification may say of a class, and what one says of a strategy."""

from __future__ import annotations

import json
from collections.abc import Collection
from dataclasses import MISSING, fields
from typing import Any

from ..checks import default_of, kinds_of, types_of
from ..errors import SettingError, suggestion
from ..rules.base import Then
from ..rules.text import RuleText
from .roles import role_of


def check_keys(role: str, cls: Any, keys: Collection[str]) -> None:
    """Refuse parameters that a class has not, and to leave out those that it needs.

    Raises:
        SettingError: naming the first one.
    """
    parameters = {f.name: f for f in fields(cls) if f.init}
    if unknown := sorted(set(keys) - parameters.keys(), key=str):
        raise SettingError(
            f"Expected parameters of {role} {cls.name!r}, got {unknown[0]!r}; "
            + suggestion(str(unknown[0]), parameters, _inside(cls, str(unknown[0])))
        )
    required = [name for name, f in parameters.items() if default_of(f) is MISSING]
    if missing := [name for name in required if name not in keys]:
        raise SettingError(
            f"Expected {role} {cls.name!r} with {', '.join(required)}, got no {', '.join(missing)}; write "
            + (f"{cls.name}:…." if role == "rule" else f'{{"name": "{cls.name}", "{missing[0]}": ...}}.')
        )


def _inside(cls: type, parameter: str) -> str:
    """What to do about a parameter that a part of the strategy has, or nobody."""
    for f in fields(cls):
        part = default_of(f)
        if role_of(type(part)) and parameter in {inner.name for inner in fields(part)}:
            return f'it is a parameter of its part: {{"{f.name}": {{"name": "{part.name}", "{parameter}": …}}}}.'
    return "remove it."


def parts_of(cls: type) -> dict[str, tuple[str, bool]]:
    """Parameters that are strategies themselves: the role of each, and whether there may be none."""
    found = {}
    for name, (hint, *_) in types_of(cls).items():
        kinds = kinds_of(hint)
        roles = [role for role in map(role_of, kinds) if role]
        if roles:
            found[name] = roles[0], type(None) in kinds
    return found


def rule_parameters(cls: Any, text: RuleText) -> dict[str, object]:
    """Name and parameters of one rule that a text names.

    Raises:
        SettingError: it is the one that joins two.
    """
    if cls is Then:
        raise SettingError(
            f"Expected a rule, got {text.name!r}, which joins two; write these with ; between them: ban:3;top-k:1."
        )
    parameters = {} if text.what is None else dict(cls.read(text.what))
    return {"name": text.name, **parameters} | ({} if text.layers is None else {"layers": text.layers})


def immutable(value: Any) -> Any:
    """YAML and JSON have no tuples; a frozen dataclass holds no lists."""
    return tuple(map(immutable, value)) if isinstance(value, list) else value


def describe(strategy: Any) -> dict[str, Any]:
    """What identifies a strategy in a record: its name and parameters; ``create`` makes it again from that.

    Fields declared with ``repr=False`` are learned state, not parameters, and left out.

    Raises:
        SettingError: if a parameter cannot be written as JSON.
    """
    description = {"name": strategy.name}
    for field in fields(strategy):
        value = getattr(strategy, field.name)
        if field.repr:
            description[field.name] = describe(value) if role_of(type(value)) else value
    try:
        return json.loads(json.dumps(description, allow_nan=False))  # type: ignore[no-any-return]
    except (TypeError, ValueError) as error:
        raise SettingError(
            f"Expected parameters of {strategy.name!r} that can be written as JSON, got {description!r} ({error}); "
            "use numbers, strings and tuples, and declare learned state with field(repr=False)."
        ) from error


def said_of(strategy: Any) -> dict[str, str]:
    """What a strategy says to a person in place of parameters whose value would mislead, by its ``said``, if any."""
    found: dict[str, str] = getattr(strategy, "said", {})
    return found


def in_words(strategy: Any) -> str:
    """Its name, with the parameters that are not the defaults; None limits nothing: "all"."""
    changed, said = [], said_of(strategy)
    for f in fields(strategy):
        value = getattr(strategy, f.name)
        if f.repr and f.init and value != default_of(f):
            shown = "all" if value is None else in_words(value) if role_of(type(value)) else value
            changed.append(f"{f.name} {said.get(f.name, shown)}")
    return f"{strategy.name} ({', '.join(changed)})" if changed else str(strategy.name)
