"""Writes two files of solved examples beside the pool of the mixture: its questions with their answers, and (a control)
the same questions with answers drawn at random, of which some are right by chance.

python studies/knowledge/passages.py runs/pool/all.jsonl runs/passages
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from c3po_adaptive.storage.files import write_text


def main(pool: str, out: str) -> None:
    """``out``/solved.jsonl and ``out``/random_answers.jsonl."""
    rows = [json.loads(line) for line in Path(pool).read_text(encoding="utf-8").splitlines()]
    draw = np.random.default_rng(0)
    Path(out).mkdir(parents=True, exist_ok=True)
    _write(Path(out) / "solved.jsonl", rows)
    _write(Path(out) / "random_answers.jsonl", [row | {"answer": _drawn(row, draw)} for row in rows])


def _drawn(row: Mapping[str, Any], draw: np.random.Generator) -> int:
    return int(draw.integers(len(row["choices"])))


def _write(path: Path, rows: Iterable[Mapping[str, Any]]) -> None:
    write_text(path, "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))


if __name__ == "__main__":
    main(*sys.argv[1:])
