"""``RemixSettings``: how pathways act and what is learned from, beside the strategies; each value is checked once."""

from __future__ import annotations

import re
from collections.abc import Mapping
from inspect import cleandoc, getdoc
from reprlib import Repr
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Self

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    GetJsonSchemaHandler,
    ValidationError,
    model_validator,
)
from pydantic.json_schema import JsonSchemaValue

from .checks import whole
from .errors import SettingError, suggestion
from .types import Gradient, Head, Labels, LearnFrom, LossName, Mix, PathwayKind, Scope, Transfer

if TYPE_CHECKING:
    from pydantic_core import CoreSchema, ErrorDetails


class Settings(BaseModel):
    """A frozen record that refuses unknown keys and wrong values with a ``SettingError`` that names those there are.

    Attributes:
        called: what messages call it.
        instead: what to do in place of keys that are looked for here.
    """

    called: ClassVar[str] = "settings"
    instead: ClassVar[Mapping[str, str]] = {}

    model_config = ConfigDict(extra="forbid", frozen=True)

    if not TYPE_CHECKING:  # type checkers shall see the fields

        def __init__(self, **values: Any) -> None:
            try:
                super().__init__(**values)
            except ValidationError as error:
                raise _refused(type(self), error) from None

    def model_copy(self, *, update: Mapping[str, Any] | None = None, deep: bool = False) -> Self:
        """The same with other values, checked as new ones are."""
        return type(self)(**{**dict(self), **(update or {})})

    @classmethod
    def of(cls, given: Self | Mapping[str, Any]) -> Self:
        """The record itself, or one of a mapping's values.

        Raises:
            SettingError: an unknown key, or a value that is none of those there are.
        """
        if isinstance(given, cls):
            return given
        if not isinstance(given, Mapping):
            raise SettingError(
                f"Expected {cls.__name__}, or a mapping with keys among {', '.join(cls.model_fields)}, got {given!r}."
            )
        return cls(**{str(key): value for key, value in given.items()})

    @classmethod
    def __get_pydantic_json_schema__(cls, core: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        """As pydantic makes it, with what docstrings say of the record and of each field."""
        schema = handler.resolve_ref_schema(handler(core))
        schema["description"] = " ".join((getdoc(cls) or "").partition("\n\n")[0].split())
        said = meanings(cls)
        for name, field in schema.get("properties", {}).items():
            if name in said:
                field["description"] = said[name]
        return schema


def meanings(cls: type) -> dict[str, str]:
    """What docstrings say of each attribute below ``Attributes:`` (or ``Args:``), a class's own before its bases'."""
    found: dict[str, str] = {}
    for kind in reversed(cls.__mro__):
        _, *section = re.split(r"\n(?:Attributes|Args):\n", cleandoc(kind.__doc__ or ""))
        text = "".join(section).partition("\n\n")[0]
        entries = re.findall(r"^ {4}(\w+): (.*(?:\n {8}.*)*)", text, re.MULTILINE)
        found |= {name: " ".join(said.split()) for name, said in entries}
    return found


class RemixSettings(Settings):
    """How a pathway acts and what is learned from.

    Attributes:
        scope: where ω acts.
        transfer: how ω enters a neighbour's forward pass.
        loss: what of a neighbour is lowered.
        head: what a neighbour's likelihood is divided by.
        mix: what the answer mixes. Optimization always mixes the selected experts, so that each has a gradient.
        pathway: what ω is; a router's distribution needs ``mix: top-k``, as the layer's top-k is taken of it.
        gradient: of a router's distribution, through its top-k.
        learn_from: which references may be neighbours.
        labels: what these teach: their own right choices, or (a control) choices drawn at random.
        max_similarity: references nearer to the question than this cosine are not used (C3PO's contamination filter).
        seed: of strategies that draw.
    """

    called: ClassVar[str] = "settings of re-mixing"

    scope: Scope = "answer"
    transfer: Transfer = "replace"
    loss: LossName = "choices"
    head: Head = "tangent"
    mix: Mix = "core"
    pathway: PathwayKind = "weights"
    gradient: Gradient = "straight-through"
    learn_from: LearnFrom = "successful"
    labels: Labels = "own"
    max_similarity: Annotated[float, Field(gt=0, le=1, strict=True)] = 0.95
    seed: Annotated[int, Field(ge=0, lt=2**63, strict=True), BeforeValidator(whole)] = 0

    @model_validator(mode="after")
    def _mixed(self) -> Self:
        if self.pathway == "router" and self.mix != "top-k":
            raise ValueError("pathway router needs mix top-k: the layer takes the top-k of it.")
        return self

    @property
    def remixing(self) -> RemixSettings:
        """These settings alone, of a record that has others, too."""
        return RemixSettings(**{name: getattr(self, name) for name in RemixSettings.model_fields})


DEFAULTS = RemixSettings()


class _Refused(SettingError):
    """Keeps what was wrong part by part, for a record inside a record to be named by its place."""

    def __init__(self, cls: type[Settings], parts: list[tuple[str, str]]) -> None:
        self.parts = parts
        again = {(f".{where}", said) for where, said in parts}  # a run's setting is handed to each arm
        once = [(w, said) for w, said in parts if not any(w.endswith(end) and said == s for end, s in again)]
        found = [f"{where}: {said}" if where else said for where, said in once]
        whole = "".join(f"\n  {one}" for one in found) if len(found) > 1 else f" {found[0]}"
        super().__init__(f"Expected {cls.called}, got{whole}")


def keys_of(cls: type[Settings]) -> list[str]:
    """Its own first, then those that it shares."""
    own = [name for kind in cls.__mro__ for name in vars(kind).get("__annotations__", ()) if name in cls.model_fields]
    return list(dict.fromkeys(own))


def _refused(cls: type[Settings], error: ValidationError) -> _Refused:
    return _Refused(cls, [part for found in error.errors() for part in _parts(cls, found)])


def _briefly(value: Any) -> str:
    """What it is, however large: aliases let a few lines of YAML stand for gigabytes."""
    shown = Repr()
    shown.maxlevel, shown.maxstring, shown.maxother = 2, 200, 200
    return shown.repr(value)


def _parts(cls: type[Settings], error: ErrorDetails) -> list[tuple[str, str]]:
    """Where, and what is wrong there."""
    where = ".".join(map(str, error["loc"]))
    inner = error.get("ctx", {}).get("error")
    if isinstance(inner, _Refused):
        return [(".".join(filter(None, (where, deeper))), said) for deeper, said in inner.parts]
    if error["type"] == "extra_forbidden":
        hint = cls.instead.get(where) or suggestion(where, keys_of(cls), "leave it out.")
        return [(where, f"an unknown key; {hint}")]
    value = "" if error["type"] in ("missing", "value_error") else f", not {_briefly(error['input'])}"
    said = error["msg"].removeprefix("Value error, ").replace("a valid tuple", "a list") + value
    return [(where, said if said.endswith((".", "?")) else f"{said}.")]
