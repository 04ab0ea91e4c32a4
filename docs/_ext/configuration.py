"""``{configuration}``: every key of every kind of study's YAML, from the records that check it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from inspect import get_annotations
from typing import Any

from c3po_compare.protocol import Protocol
from sphinx.application import Sphinx
from written import Written, table

from c3po_adaptive import default_registry
from c3po_adaptive.settings import Settings
from c3po_adaptive.study.kinds import DEFAULT, kinds

BOUNDS = {"minimum": "≥", "exclusiveMinimum": ">", "maximum": "≤"}


def records() -> list[type[Settings]]:
    """Configurations of each kind, and the protocol, then what they are made of, each once."""
    found = dict.fromkeys([*(study.config for study in kinds(default_registry()).values()), Protocol])
    names = {name for config in found for name in config.model_json_schema().get("$defs", {})}
    for config in list(found):
        found |= dict.fromkeys(c for c in config.__mro__[1:] if issubclass(c, Settings) and c is not Settings)
    parts = {cls.__name__: cls for cls in _below(Settings)}
    return list(found | dict.fromkeys(parts[name] for name in sorted(names)))


def _below(cls: type[Settings]) -> Iterator[type[Settings]]:
    for one in cls.__subclasses__():
        yield one
        yield from _below(one)


def keys_of(cls: type[Settings]) -> dict[str, Any]:
    """The JSON schema of each key that a record has beside those of the record that it extends."""
    inherited = {name for base in cls.__mro__[1:] for name in getattr(base, "model_fields", {})}
    own = set(get_annotations(cls)) & set(cls.model_fields)
    return {
        name: {**field, "required": cls.model_fields[name].is_required()}
        for name, field in cls.model_json_schema()["properties"].items()
        if name in own and (name not in inherited or cls.model_fields[name].is_required())
    }


def in_words(schema: dict[str, Any]) -> str:
    """What a value may be."""
    if "$ref" in schema:
        name = schema["$ref"].rpartition("/")[2]
        return f"[{name}](#{name.lower()})"
    if "const" in schema or "enum" in schema:
        return ", ".join(f"`{value}`" for value in schema.get("enum", [schema.get("const")]))
    if "anyOf" in schema:
        return " or ".join(dict.fromkeys(in_words(one) for one in schema["anyOf"] if one.get("type") != "null"))
    kind = schema.get("type", "anything")
    if kind == "array":
        inside = schema.get("items", {})
        return "list of " + ("pairs" if "prefixItems" in inside else in_words(inside))
    if kind == "object":
        inside = schema.get("additionalProperties")
        return f"mapping of {in_words(inside)}" if isinstance(inside, dict) else "mapping"
    said = {"string": "text", "integer": "whole number", "number": "number", "boolean": "`true`, `false`"}.get(
        kind, kind
    )
    bounds = [f"{sign} {schema[name]}" for name, sign in BOUNDS.items() if name in schema]
    return " ".join([said, ", ".join(bounds)]).strip()


def _default(name: str, field: dict[str, Any]) -> str:
    if field["required"]:
        return "required"
    if "default" not in field:
        return "the demo's" if name == "arms" else "empty"
    value = field["default"]
    if isinstance(value, list | dict) and any(isinstance(one, dict) for one in [value, *value]):
        return "the demo's" if name == "datasets" else "its defaults"
    if value is None:
        return ""
    return "empty" if value == [] else f"`{json.dumps(value) if not isinstance(value, str) else value}`"


class Configuration(Written):
    """A section for each record."""

    def text(self) -> str:
        """Its keys, what they may be, and by default are."""
        kind_of = {study.config: name for name, study in kinds(default_registry()).items()}
        parts = []
        for cls in records():
            title = f"kind: {kind_of[cls]}" if cls in kind_of else cls.__name__
            wider = next((c for c in cls.__mro__[1:] if issubclass(c, Settings) and c is not Settings), None)
            parts += [f"## {title}\n", f"{cls.model_json_schema()['description']}\n"]
            if kind_of.get(cls) == DEFAULT:
                parts += ["Of this kind is a configuration that names none.\n"]
            rows = [[f"`{n}`", in_words(f), _default(n, f), f["description"]] for n, f in keys_of(cls).items()]
            parts += [table(("key", "value", "default", "meaning"), rows)]
            if wider is not None:
                parts += [f"It takes the keys of [{wider.__name__}](#{wider.__name__.lower()}), too.\n"]
        return "\n".join(parts)


def setup(app: Sphinx) -> dict[str, bool]:
    """Found by Sphinx."""
    kinds(default_registry())  # now: autodoc writes to annotations of records, after which pydantic can extend none
    app.add_directive("configuration", Configuration)
    return {"parallel_read_safe": True}
