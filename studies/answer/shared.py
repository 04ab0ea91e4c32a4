"""Test questions that share a text with a reference, by the bed's fingerprints, and what moves without them:
``C3PO_BED=FOLDER python -m answer.shared`` (in ``studies``) writes ``results/shared.json``, from the answers that are
kept. They are held against all references of the 53 kinds, drawn by a run or not.
"""

import json
import re
from collections.abc import Iterable, Mapping
from itertools import chain

import yaml
from answer.compare import PARTS, RESULTS, SECONDARY, comparisons, kept, parts
from answer.left import PAIRS, corrected_pairs, parts_of
from answer.unasked import CONFIG, of_either_wording
from c3po_bed import fingerprints

from c3po_adaptive.records.answer import Answered
from c3po_adaptive.records.summary import Comparison
from c3po_adaptive.storage.files import write_text
from c3po_adaptive.tasks.sources import questions

FILE = RESULTS / "shared.json"
RUNS = (*PARTS, *PAIRS)
KIND_AND_NUMBER = re.compile(r"[^/]+/\d+")


def asked(run: str) -> set[str]:
    """Kind and number of each question of a run, however it is worded."""
    return {of_either_wording(record.id) for records in kept(run).values() for record in records}


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


def without(of: Mapping[str, list[Answered]], ids: Iterable[str]) -> dict[str, list[Answered]]:
    """Answers by part, without those to some questions, which may have a model's name before their id."""
    left_out = {*ids}
    return {name: [r for r in own if _bare(r.id) not in left_out] for name, own in of.items()}


def _bare(id_: str) -> str:
    found = KIND_AND_NUMBER.search(id_)
    return id_ if found is None else found.group()


def moved(run: str, left_out: Iterable[str]) -> dict[str, object]:
    """By how much a run's comparisons move at most, and those of them whose claim is another then."""
    before = {_named(one): one for one in map(Comparison.model_validate, told(run)["comparisons"])}
    pairs = [(before[_named(one)], one) for one in compared(run, left_out)]
    was, found = max(pairs, key=lambda pair: abs(pair[1].difference - pair[0].difference))
    return {
        "largest": _told(was, found),
        "primary": [_told(*pair) for pair in pairs if pair[0].primary],
        "claims": [_told(*pair) for pair in pairs if _claim(pair[0]) != _claim(pair[1])],
    }


def told(run: str) -> dict[str, list[dict[str, object]]]:
    """The summary that is kept of a run."""
    return dict(json.loads((RESULTS / run / "summary.json").read_text()))


def compared(run: str, left_out: Iterable[str]) -> list[Comparison]:
    """A run's comparisons without some questions, as ``compare`` or ``left`` make them of all."""
    if run in PARTS:
        return comparisons(without(parts(kept(run), PARTS[run]), left_out), SECONDARY[run])
    return corrected_pairs(without(parts_of(run), left_out), run)


def _named(one: Comparison) -> tuple[str, str, str]:
    return one.dataset, one.a, one.b


def _claim(one: Comparison) -> int:
    return one.claimed if one.p_holm < 0.05 else 0


def _told(before: Comparison, after: Comparison) -> dict[str, object]:
    interval = {name: getattr(after, name) for name in ("difference", "ci_low", "ci_high", "p_holm")}
    return {"dataset": before.dataset, "a": before.a, "b": before.b, "before": before.difference} | interval


def main() -> None:
    texts, found = texts_of_references(), {}
    for run in RUNS:
        ids = asked(run)
        shared = sharing(ids, texts)
        found[run] = {"questions": len(ids), "shared": shared} | moved(run, shared)
        print(f"{run}: {len(shared)} of {len(ids)} questions, {found[run]['largest']}")
    write_text(FILE, json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
