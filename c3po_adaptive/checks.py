"""Types of strategies' parameters, as classes annotate them, and checks against these."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from dataclasses import MISSING, Field, fields
from functools import cache
from inspect import formatannotation, get_annotations
from numbers import Integral
from operator import attrgetter
from types import SimpleNamespace, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin, get_type_hints

import pydantic
from pydantic import ConfigDict, InstanceOf, TypeAdapter, ValidationError

from .errors import PluginError, SettingError, suggestion

FLOAT32_MAX = (2 - 2**-23) * 2.0**127
"""The largest number that float32 holds, for those who do without torch."""

Share = Annotated[float, pydantic.Field(ge=0, le=1)]
"""A part of a whole."""

STRICT = ConfigDict(strict=True, allow_inf_nan=False, arbitrary_types_allowed=True)
BOUNDS = {"exclusiveMinimum": ">", "minimum": ">=", "exclusiveMaximum": "<", "maximum": "<="}
NUMBERS = {"integer": "a whole number", "number": "a finite number"}
KINDS = {**NUMBERS, "array": "a list", "string": "a text"}


class Checked:
    """The base of every role: a parameter whose type says more than a class is held against it.

    That is ``Annotated``, ``Literal``, and pydantic's own types, such as ``PositiveInt``, also as a part of another
    type. Values stay as they were given, for they identify a run. A class with a ``__post_init__`` of its own calls
    that of its base first.
    """

    def __post_init__(self) -> None:
        kind: Any = type(self)
        for name, hint, adapter in _checks(kind):
            _check(self, name, hint, adapter)


@cache
def _checks(cls: Any) -> list[tuple[str, Any, TypeAdapter[Any]]]:
    """Parameters that are held against a type. One that a subclass annotates anew stays what its base says, too."""
    each = [(name, hint) for name, hints in types_of(cls).items() for hint in hints]
    return [(name, hint, _adapter(hint)) for name, hint in each if tells(hint)]


def checked(cls: Any) -> set[str]:
    """Names of a class's own parameters that are held against their types."""
    return {name for name, _, _ in _checks(cls)} & get_annotations(cls).keys()


def _adapter(hint: Any) -> TypeAdapter[Any]:
    return TypeAdapter(hint, config=None if part_of(hint) else STRICT)  # a dataclass has a configuration of its own


def tells(hint: Any) -> bool:
    """Whether a type says more than a class."""
    return get_origin(hint) in (Annotated, Literal) or any(map(tells, get_args(hint)))


def _check(strategy: Any, field: str, hint: Any, adapter: TypeAdapter[Any]) -> None:
    value = getattr(strategy, field)
    try:
        adapter.validate_python(whole(value))
    except ValidationError as error:
        own = [f"{one['msg'].removeprefix('Value error, ')}." for one in error.errors() if one["type"] == "value_error"]
        raise SettingError(
            f"Expected {strategy.name}.{field} to be {_wanted(hint)}, got {value!r}; "
            f"{(own or [_remedy(strategy.name, field, value, hint)])[0]}"
        ) from None


def whole(value: Any) -> Any:
    """NumPy's whole numbers are whole numbers."""
    return int(value) if isinstance(value, Integral) and not isinstance(value, bool) else value


def _wanted(hint: Any) -> str:
    if part := part_of(hint):
        return f"a {part.__name__}"
    schema = schema_of(hint)
    one_of = "one of " if len(schema.get("enum", ())) > 1 else ""
    none = ", or None" if {"type": "null"} in schema.get("anyOf", ()) else ""
    return f"{one_of}{in_words(schema) or f'of the type {formatannotation(kinds_of(hint)[0])}'}{none}"


def _remedy(name: str, field: str, value: Any, hint: Any) -> str:
    """What to do next: what the field says for that, or a name that is near."""
    if part_of(hint):
        return f'names are looked up where {name} itself is given by name: {{"name": "{name}", "{field}": …}}.'
    schema = schema_of(hint)
    names = [one for part in schema.get("anyOf", [schema]) for one in part.get("enum", [part.get("const")]) if one]
    if names and isinstance(value, str):
        return suggestion(value, names, otherwise="") or "choose one of these."
    usual = f"give such a {'number' if schema.get('type') in NUMBERS else 'value'}"
    return next((p["description"] for p in (schema, *schema.get("anyOf", ())) if "description" in p), usual) + "."


def kinds_of(hint: Any) -> list[Any]:
    """The classes and literals that a type is one of, without what else it says."""
    if get_origin(hint) is Annotated:
        return kinds_of(get_args(hint)[0])
    inside = get_args(hint) if get_origin(hint) in (Union, UnionType) else ()
    return [kind for one in inside for kind in kinds_of(one)] or [hint]


def part_of(hint: Any) -> type | None:
    """The class that a type asks for an object of (``InstanceOf``), if it does."""
    if any(isinstance(one, InstanceOf) for one in getattr(hint, "__metadata__", ())):  # type: ignore[misc]
        return get_args(hint)[0]  # type: ignore[no-any-return]
    return next((part for inner in get_args(hint) if (part := part_of(inner))), None)


def schema_of(hint: Any) -> Mapping[str, Any]:
    """The JSON schema of a type; nothing of one that JSON does not know."""
    try:
        return _adapter(hint).json_schema()
    except pydantic.PydanticInvalidForJsonSchema:
        return {}


def in_words(schema: Mapping[str, Any]) -> str:
    """What a JSON schema allows: "a whole number >= 1, or 'median'"; of None it says nothing."""
    if "anyOf" in schema:
        return ", or ".join(filter(None, map(in_words, schema["anyOf"])))
    if "examples" in schema:
        return f"among {', '.join(schema['examples'])}"
    if names := schema.get("enum", [schema["const"]] if "const" in schema else []):
        return ", ".join(map(repr, names))
    of = f"of {_several(schema['items'])}" if "items" in schema else ""
    return " ".join(filter(None, (KINDS.get(schema.get("type", ""), ""), of, " and ".join(_bounds(schema)))))


def _several(schema: Mapping[str, Any]) -> str:
    """What the parts of a list are: whole numbers, or names."""
    return f"{in_words(schema).removeprefix('a ')}s" if "type" in schema and "enum" not in schema else in_words(schema)


def _bounds(schema: Mapping[str, Any]) -> Iterator[str]:
    for key, sign in BOUNDS.items():
        if key in schema:
            whole_above = key == "exclusiveMinimum" and schema["type"] == "integer"
            yield f">= {schema[key] + 1}" if whole_above else f"{sign} {schema[key]:g}"


def check_number(
    strategy: Any,
    field: str,
    *,
    above: float | None = None,
    at_least: float | None = None,
    at_most: float | None = None,
    whole: bool = False,
    hint: str = "",
) -> None:
    """Refuse a field that is not a finite number within its bounds, where these are known only with other fields.

    Bounds that always hold are said by the field's type: ``Annotated[float, pydantic.Field(gt=0)]``.

    Args:
        strategy: the object whose ``field`` is checked; its ``name`` opens the message.
        field: which of its fields.
        above: what it has to be greater than, if anything.
        at_least: the smallest that will do, if there is one.
        at_most: the greatest that will do, if there is one.
        whole: only integers will do.
        hint: what to do next; by default, to choose such a number.

    Raises:
        SettingError: if the value is anything else; a bool is not a number here.
    """
    said = pydantic.Field(gt=above, ge=at_least, le=at_most, description=hint or None)
    wanted: Any = Annotated[int if whole else float, said]
    _check(strategy, field, wanted, _adapter(wanted))


def as_part_says(name: str, part: str = "of") -> Any:
    """A property of a strategy that stands around another: what that one, its field ``part``, says of itself.

    Args:
        name: such as ``needs_neighbours``, which of most strategies is a constant of their class.
        part: the field.
    """
    return property(attrgetter(f"{part}.{name}"))


def default_of(field: Field[Any]) -> Any:
    """What a dataclass's field is where it is not given; MISSING: it has to be."""
    return field.default if field.default_factory is MISSING else field.default_factory()


@cache
def types_of(cls: Any) -> dict[str, tuple[Any, ...]]:
    """The types of a dataclass's parameters: as its class annotates each, and then the classes that it inherits from.

    Fields with ``repr=False`` are learned state, not parameters, and may be annotated with what is imported for type
    checkers only.

    Raises:
        PluginError: a type cannot be looked up.
    """
    found: dict[str, tuple[Any, ...]] = {f.name: () for f in fields(cls) if f.init and f.repr}
    for kind in cls.__mro__:
        for name, hint in get_annotations(kind).items():
            if name in found:
                found[name] += (_resolved(kind, name, hint),)
    return found


def _resolved(cls: type, name: str, hint: Any) -> Any:
    """A type whose annotation may be text."""
    there = vars(sys.modules[cls.__module__]) if cls.__module__ in sys.modules else {}
    try:
        return get_type_hints(SimpleNamespace(__annotations__={name: hint}), there, include_extras=True)[name]
    except Exception as error:
        raise PluginError(
            f"Expected the type of {cls.__name__}.{name} to be there when it runs, got {hint!r} ({error}); it says "
            "what the parameter may be, so import it outside of TYPE_CHECKING."
        ) from error
