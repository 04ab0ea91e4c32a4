"""``{trace-format} card`` and ``row``: the fields of a trace's file, by the JSON schema that is shipped."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import c3po_traces
from sphinx.application import Sphinx
from written import Written, table

SCHEMA = Path(c3po_traces.__file__).with_name("trace.schema.json")


class TraceFormat(Written):
    """A row for each field of the card or of a row."""

    required_arguments = 1
    optional_arguments = 0

    def text(self) -> str:
        """What it may be, and what it is."""
        schema = json.loads(SCHEMA.read_text(encoding="utf-8"))
        part = schema if self.arguments[0] == "card" else schema["$defs"]["row"]
        rows = [[called(name, part), stored(field), field["description"]] for name, field in part["properties"].items()]
        return table(("field", "values", "what it is"), rows)


def called(name: str, part: dict[str, Any]) -> str:
    """Its name, and whether it may be missing."""
    return f"`{name}`" if name in part["required"] else f"`{name}` (may be missing)"


def stored(field: dict[str, Any]) -> str:
    """Of a column Arrow's type, too."""
    return f"`{field['arrow']}`: {values(field)}" if "arrow" in field else values(field)


def values(field: dict[str, Any]) -> str:
    """Types and bounds."""
    kinds = field["type"] if isinstance(field["type"], list) else [field["type"]]
    said = " or ".join(kinds) + (f" of {values(field['items'])}" if "items" in field else "")
    low, high, beyond = (field.get(name) for name in ("minimum", "maximum", "exclusiveMaximum"))
    if beyond is not None:
        high = beyond - 1
    if low == high and low is not None:
        return f"{said}, {low}"
    bounds = [f"from {low}"] * (low is not None) + [f"to {high}"] * (high is not None)
    return f"{said} {' '.join(bounds)}".strip()


def setup(app: Sphinx) -> dict[str, bool]:
    """Found by Sphinx."""
    app.add_directive("trace-format", TraceFormat)
    return {"parallel_read_safe": True}
