"""``--set key=value`` over a configuration: what it names is there already, and what is new is written with a ``+``.

A record has the keys of its class, whether a file gives them or not; a list and a mapping of names (arms, controls,
scores) have what is written in them. Parameters of a strategy are for whoever makes it: no other one is taken there.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from copy import copy
from itertools import takewhile
from types import NoneType
from typing import Any, TypeVar, get_args, get_origin

import yaml
from pydantic import TypeAdapter
from pydantic_core import PydanticUndefined

from ..checks import kinds_of
from ..errors import SettingError, suggestion
from ..settings import Settings, keys_of
from .study_config import Spec, read_value, read_yaml

NEW = "+"

S = TypeVar("S", bound=Settings)


def parsed(of: type[S], raw: Mapping[str, object], settings: Sequence[str] = ()) -> S:
    """A checked configuration.

    Raises:
        SettingError: an unknown key, or a value of the wrong kind; the key is named.
    """
    return of.of(with_settings(raw, settings, of))


def with_settings(raw: Mapping[str, object], settings: Sequence[str], of: Any) -> dict[str, object]:
    """Plain values with settings on top; one of a part of what ``raw`` leaves out changes that part of what it is by
    default, and leaves the rest.

    Args:
        raw: what was written.
        settings: what comes over it: ``key.key=value``, where a key ``*`` is every part of a list or a mapping;
            ``+key.key=value``, which adds a name to a mapping of names; or ``@FILE``, the keys of another
            configuration.
        of: what the values are of: a record's class, or ``Spec``.

    Raises:
        SettingError: a setting that names nothing, that adds what there is, or that cannot be applied.
    """
    values = dict(raw)
    for setting in settings:
        if setting.startswith("@"):
            values |= read_yaml(setting[1:])
            continue
        key, equals, value = setting.partition("=")
        if not equals:
            raise SettingError(f"Expected --set key=value, got {setting!r}; for example --set batch_size=8.")
        if not value.strip():
            raise SettingError(f"Expected a value behind the = of --set, got {setting!r}; write null for none.")
        first, *deeper = key.removeprefix(NEW).split(".")
        if deeper and first not in values and (usual := _default(of, first)) is not None:
            values[first] = usual
        try:
            read = read_value(value)
            for path in list(_paths(values, [first, *deeper], of, key.startswith(NEW))):
                _put(values, path, read)
        except _NamesNothingError as error:
            raise SettingError(f"Expected --set with a key that there is, got {setting!r}: {error}") from None
        except (ValueError, LookupError, TypeError, RecursionError, AttributeError, yaml.YAMLError) as error:
            raise SettingError(
                f"Expected --set with a key that the configuration can hold and a YAML value, got {setting!r} "
                f"({error}); c3po study schema prints what it can hold."
            ) from error
    return values


def _default(of: Any, key: str) -> Any:
    """A record's field as it is by default, in plain values, without what its parts leave out themselves."""
    if not _is_record(of) or key not in of.model_fields:
        return None
    value = of.model_fields[key].get_default(call_default_factory=True, validated_data={})
    return None if value is PydanticUndefined else TypeAdapter(Any).dump_python(value, mode="json", exclude_unset=True)


def _is_record(of: Any) -> bool:
    return isinstance(of, type) and issubclass(of, Settings)


class _NamesNothingError(Exception):
    """Why a key is refused, and what to write."""


def _paths(place: Any, keys: list[str], of: Any, new: bool, above: tuple[str, ...] = ()) -> Iterator[list[str]]:
    """Keys that are there, without a *: those of each part that it stands for.

    Args:
        place: where they begin; None where nothing is written.
        keys: what was written.
        of: what the place is of.
        new: one of the keys has to be a new one of a mapping; whatever is below that is new, too.
        above: keys that led to the place.

    Raises:
        _NamesNothingError: a key that is not there, or if one has to be new, none that is.
    """
    if not keys:
        if new:
            raise _NamesNothingError("all of that is there already, and + is for what is new; leave the + out.")
        yield []
        return
    (key, *deeper), parts, of, where = keys, _written(place), _kind(of), ".".join(above)
    if key == "*":
        if not parts:
            raise _NamesNothingError(f"{where or 'it'} has no parts that * could stand for; leave it out.")
        for part in parts:
            yield from _paths(place, [part, *deeper], of, new, above)
        return
    is_record = _is_record(of)
    known = keys_of(of) if is_record else [*parts]
    if of != Spec and key not in known:
        is_open = not is_record and (isinstance(place, Mapping) or (place is None and get_origin(of) is dict))
        addable = (*above, *takewhile(lambda one: one != "*", keys)) if is_open and key else ()
        if new and addable and "*" not in deeper:
            yield keys
            return
        raise _NamesNothingError(_said(key, place, known, where or getattr(of, "called", "it"), addable))
    for path in _paths(parts.get(key), deeper, _part(of, key), new, (*above, key)):
        yield [key, *path]


def _said(key: str, place: Any, known: Sequence[str], where: str, addable: Sequence[str]) -> str:
    """What is wrong with a key, and what there is in that place."""
    if isinstance(place, list | tuple):
        if not place:
            return f"no {key!r} in {where}, which is an empty list; set {where} itself."
        parts = [f"{where}.{i}{_named(part)}" for i, part in enumerate(place)]
        return f"no {key!r} in {where}, which is a list; name its parts by number: {', '.join(parts)}, or {where}.*."
    if not known and not addable:
        return f"no {key!r} in {where}, which has no parts; set {where} itself."
    added = f" A new one is written +{'.'.join(addable)}=…." if addable else ""
    there = suggestion(key, known, "name one of these.") if known else "there are none."
    return f"no {key!r} in {where}; {there}{added}"


def _named(part: Any) -> str:
    """What a part of a list is called, if it has a name."""
    name = _written(part).get("name")
    return f" ({name})" if isinstance(name, str) else ""


def _written(place: Any) -> Mapping[str, object]:
    """The parts of a mapping or a list by name or number; none of anything else."""
    if isinstance(place, Mapping):
        return place
    return {str(i): part for i, part in enumerate(place)} if isinstance(place, list | tuple) else {}


def _kind(of: Any) -> Any:
    """A type without what checks it, and without None."""
    kinds = [kind for kind in kinds_of(of) if kind is not NoneType]
    return kinds[0] if len(kinds) == 1 else Spec if kinds == kinds_of(Spec) else Any


def _part(of: Any, key: str) -> Any:
    """What a part is of, where the type of the whole says so."""
    if of == Spec:
        return Spec
    if _is_record(of):
        return of.model_fields[key].annotation
    inside = get_args(of)[get_origin(of) is dict :] if get_origin(of) in (dict, tuple, list) else ()
    return inside[0] if inside else Any


def _put(place: Any, path: Sequence[str], value: Any) -> None:
    """Set a value below ``place``, and make the mappings that lead to it where there are none."""
    first, *deeper = path
    step = int(first) if isinstance(place, list) else first
    if not deeper:
        place[step] = value
        return
    if isinstance(place, dict):
        if isinstance(place.get(step), str):
            place[step] = {"name": place[step]}  # optimizer: ngd, given optimizer.steps=5
        if place.get(step) is None:
            place[step] = {}
    place[step] = copy(place[step])  # an alias stands in several places
    _put(place[step], deeper, value)
