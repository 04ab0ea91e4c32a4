"""Plain values, and JSON that others may have written: read, and held against what it has to be."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, TypeAlias, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError, model_validator

from ..errors import DataError, disk_says
from .files import check_there

Json: TypeAlias = Mapping[str, "Json"] | Sequence["Json"] | str | int | float | bool | None
"""What JSON and YAML hold."""
Values: TypeAlias = Mapping[str, Json]
"""An object of it: plain values by name."""
SCHEMA = 2
"""Version of what records and summaries hold; written into each as ``schema_version``."""


class Ours(BaseModel):
    """What a file of ours holds at least; the rest stays as it is."""

    model_config = ConfigDict(extra="allow")
    newest: ClassVar[int] = SCHEMA
    """The highest ``schema_version`` that is known."""

    @model_validator(mode="before")
    @classmethod
    def _known(cls, value: Any) -> Any:
        version = value.get("schema_version") if isinstance(value, Mapping) else None
        if isinstance(version, int) and version > cls.newest:
            raise ValueError(
                f"expected schema_version {cls.newest} at most, got {version}, of a later version; update c3po_adaptive"
            )
        return value


M = TypeVar("M", bound=Ours)


def parse_json(text: str, where: str, remedy: str) -> Any:
    """A JSON value.

    Args:
        text: to be parsed.
        where: where it stands, to begin the message with.
        remedy: what to do, to end it with.

    Raises:
        DataError: it is no JSON, nested too deeply, or holds a number too long to be one.
    """
    try:
        value = json.loads(text)
        if "\\ud" in text.lower():  # an escape may stand for half of a character, which no file of ours can hold
            json.dumps(value, ensure_ascii=False).encode()
        return value
    except (ValueError, RecursionError) as error:
        raise DataError(f"{where}: expected JSON, got something else ({unreadable(error)}); {remedy}.") from None


def unreadable(error: ValueError | RecursionError) -> str:
    """What is wrong with a JSON text, in short."""
    return "nested too deeply" if isinstance(error, RecursionError) else str(error).partition(";")[0]


def read_json(path: Path, remedy: str) -> Any:
    """The JSON value of a file.

    Raises:
        DataError: there is no such file, it is no UTF-8, or no JSON.
    """
    return parse_json(read_text(path, remedy), str(path), remedy)


def read_text(path: Path, remedy: str) -> str:
    """The text of a file.

    Raises:
        DataError: there is no such file, or it is no UTF-8.
    """
    check_there(path, "a file of ours", remedy)
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, ValueError) as error:  # of its name, or what it holds
        raise DataError(f"{path}: expected a file of ours, got: {disk_says(error)}; {remedy}.") from None


def holds(path: Path, keys: Iterable[str]) -> bool:
    """Whether a file is a JSON object with these keys, if perhaps more."""
    try:
        value = read_json(path, "")
    except DataError:
        return False
    return isinstance(value, dict) and value.keys() >= {*keys}


def checked(kind: type[M], value: Any, where: str, remedy: str) -> M:
    """A value as what it has to be.

    Raises:
        DataError: it is something else; what is wrong is named. Or a later version wrote it.
    """
    try:
        return kind.model_validate(value)
    except ValidationError as error:
        raise _another(kind, error, where, remedy) from None


def checked_json(kind: type[M], text: str | bytes, where: str, remedy: str) -> M:
    """A JSON text as what it has to be; errors as for ``checked``."""
    try:
        return kind.model_validate_json(text)
    except ValidationError as error:
        raise _another(kind, error, where, remedy) from None


def _another(kind: type[Ours], error: ValidationError, where: str, remedy: str) -> DataError:
    first = error.errors()[0]
    place = ".".join(map(str, first["loc"])) or "all of it"
    called = (kind.__doc__ or kind.__name__).partition("\n")[0]
    return DataError(f"{where}: expected {called}, got another ({place}: {first['msg']}); {remedy}.")
