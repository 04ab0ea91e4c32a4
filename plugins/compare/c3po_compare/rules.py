"""By which rules protocols are judged: those of runs, and the files here that decide what is compared."""

from __future__ import annotations

from functools import cache
from pathlib import Path

from c3po_bed import KINDS

from c3po_adaptive.analysis import rules as rules_of_runs
from c3po_adaptive.study import digest, digest_of_file

FILES = ("named_comparisons", "named_verdict", "paired_sides", "kept_answers", "protocol")
"""Of this folder: those that decide which answers count, pairs, units, families and verdicts."""


@cache
def rules() -> str:
    """A short hash of the rules of runs, of these files, and of which source data set each kind of the bed is from."""
    files = [digest_of_file(Path(__file__).with_name(f"{name}.py")) for name in FILES]
    return digest([rules_of_runs(), files, {name: kind.source.name for name, kind in KINDS.items()}])[:12]
