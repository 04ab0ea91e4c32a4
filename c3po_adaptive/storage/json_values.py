"""What JSON and YAML hold, as a type: configurations, and whatever else is plain."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TypeAlias

Json: TypeAlias = Mapping[str, "Json"] | Sequence["Json"] | str | int | float | bool | None
Values: TypeAlias = Mapping[str, Json]
"""An object of it: plain values by name."""
