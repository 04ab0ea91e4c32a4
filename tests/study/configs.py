"""Configurations as the command line reads them."""

import json
from dataclasses import asdict
from functools import cache
from pathlib import Path

from routing.toys import questions

from c3po_adaptive.registry import new_registry
from c3po_adaptive.study.comparison import STUDY
from c3po_adaptive.study.comparison.added_controls import with_controls
from c3po_adaptive.study.kinds import read_study
from c3po_adaptive.testing import write_tiny_checkpoint

FIXED = {"name": "fixed", "n": 2, "experts": 5}


STUDIES = Path(__file__).parents[2] / "studies"
SPEED = STUDIES / "speed" / "kind.py"
KINDS = sorted(STUDIES.glob("*/kind.py"))
"""Files of the kinds of study that come from ``studies/``."""


@cache
def registry():
    """The built-ins, companions, and those kinds."""
    made = new_registry()
    for file in KINDS:
        made.load_file(file)
    return made


def load_config(path, settings=()):
    """Of a file of any kind; None: a comparison of which nothing is said."""
    return STUDY.parse({}, settings) if path is None else read_study(path, settings, registry=registry)[1]


def parse_config(raw, settings=()):
    """Of a comparison's plain values."""
    return STUDY.parse(raw, settings)


def registry_of(*files):
    """The built-ins, companions, and what plugins' files bring."""
    made = new_registry()
    for file in files:
        made.load_file(file)
    return made


def with_all_arms(raw, known=None):
    """Of a comparison's plain values, with its controls by a registry's strategies."""
    return with_controls(parse_config(raw), known or registry())


def written(file, asked):
    """The path of a file with these questions."""
    file.write_text("".join(json.dumps(asdict(q)) + "\n" for q in asked), encoding="utf-8")
    return str(file)


def small_study(place):
    """Twelve questions, and two arms; everything lies in one folder."""
    write_tiny_checkpoint(place / "model", "olmoe")
    return parse_config(
        {
            "model": str(place / "model"),
            "datasets": [
                {
                    "name": "toy",
                    "questions": written(place / "test.jsonl", questions(12, "t")),
                    "split": None,
                    "references": [written(place / "references.jsonl", questions(20))],
                }
            ],
            "arms": {
                "base": {"optimizer": "none"},
                "ngd": {"optimizer": {"name": "ngd", "steps": 2}, "selector": FIXED},
            },
            "batch_size": 3,
        }
    )


def told_study(place):
    """The same as plain values, with an arm of the tests' own plugin that reads a file."""
    (place / "facts.txt").write_text("Wood floats.\n\nStones sink.\n")
    raw = small_study(place).model_dump(mode="json")
    raw["arms"]["told"] = {"optimizer": "none", "answerer": {"name": "told", "text": str(place / "facts.txt")}}
    return raw
