"""Any number of runs held against a protocol: the command ``c3po compare``, and their answers as a table."""

from __future__ import annotations

from .kept_answers import answers

__all__ = ["answers"]
