"""Test questions that share a text with a reference, by the bed's fingerprints, and what moves without them:
``C3PO_BED=FOLDER python -m answer.shared`` (in ``studies``) writes ``results/shared.json``, from the answers that are
kept. They are held against all references of the 53 kinds, drawn by a run or not.
"""

import json
import shlex
from collections.abc import Iterable, Sequence
from dataclasses import replace
from glob import glob
from itertools import chain
from pathlib import Path

import yaml
from answer.unasked import CONFIG, of_either_wording
from c3po_bed import fingerprints
from c3po_compare.compared import read_protocol
from c3po_compare.kept_answers import read_runs
from c3po_compare.named_comparisons import NamedComparisons
from c3po_compare.paired_runs import Run
from c3po_compare.records import Compared, ComparedSummary

from c3po_adaptive.storage.files import write_text
from c3po_adaptive.tasks.sources import questions

HERE = Path(__file__).parent
FILE = HERE / "results" / "shared.json"
PROTOCOLS = {"first": "first_protocol.yaml", "second": "protocol.yaml", "left": "left_protocol.yaml"}
"""By the folder in ``results`` that each fills."""


def answered(name: str) -> list[Run]:
    """The answers that a protocol's first line names."""
    first = (HERE / PROTOCOLS[name]).read_text(encoding="utf-8").partition("\n")[0]
    named = [word.rpartition("=") for word in shlex.split(first) if word.endswith(".parquet")]
    files = [(model + sign, sorted(glob(str(HERE.parents[1] / path)))) for model, sign, path in named]
    return read_runs(*(model + file for model, several in files for file in several))


def asked(runs: Iterable[Run]) -> set[str]:
    """Kind and number of each question, however it is worded."""
    return {of_either_wording(record.id) for run in runs for record in run.records}


def texts_of_references() -> set[bytes]:
    """Fingerprints of all references of the kinds that the first round learned from, without its limit."""
    sources = yaml.safe_load(CONFIG.read_text())["datasets"][0]["references"]
    found = (one for source in sources for one in questions(source, split="references"))
    return set(chain.from_iterable(fingerprints(one.subject, one) for one in found))


def sharing(ids: set[str], texts: set[bytes]) -> list[str]:
    """Which of the test questions have one of these texts; the bed gives none that an expert learned a text of."""
    kinds = sorted({id_.partition("/")[0] for id_ in ids})
    found = {one.id: one for one in questions(f"bed:{','.join(kinds)}", split="test")}
    if gone := ids - found.keys():
        raise SystemExit(f"Expected questions that no expert learned, got {len(gone)}, as {min(gone)!r}, of others.")
    return sorted(id_ for id_ in ids if fingerprints(found[id_].subject, found[id_]) & texts)


def without(runs: Iterable[Run], ids: Sequence[str]) -> list[Run]:
    """Answers but for those to some questions, in either wording."""
    return [replace(run, records=[r for r in run.records if of_either_wording(r.id) not in ids]) for run in runs]


def moved(name: str, runs: Iterable[Run]) -> dict[str, object]:
    """By how much a protocol's comparisons move at most, and those of them whose claim is another then."""
    protocol = read_protocol(HERE / PROTOCOLS[name])
    kept = ComparedSummary.model_validate_json((FILE.parent / name / "summary.json").read_bytes()).comparisons
    pairs = list(zip(kept, NamedComparisons(protocol, list(runs)).made(protocol.unit), strict=True))
    return {
        "largest": told(*max(pairs, key=lambda pair: abs(pair[1].difference - pair[0].difference))),
        "primary": [told(*pair) for pair in pairs if pair[0].primary],
        "claims": [told(*pair) for pair in pairs if claim(pair[0]) != claim(pair[1])],
    }


def claim(one: Compared) -> str:
    return one.verdict.partition(" ")[0]


def told(before: Compared, after: Compared) -> dict[str, object]:
    interval = {name: getattr(after, name) for name in ("difference", "ci_low", "ci_high", "p_holm")}
    return {"on": before.on, "a": before.a, "b": before.b, "before": before.difference} | interval


def main() -> None:
    texts, found = texts_of_references(), {}
    for name in PROTOCOLS:
        runs = answered(name)
        shared = sharing(ids := asked(runs), texts)
        found[name] = {"questions": len(ids), "shared": shared} | moved(name, without(runs, shared))
        print(f"{name}: {len(shared)} of {len(ids)} questions, {found[name]['largest']}")
    write_text(FILE, json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
