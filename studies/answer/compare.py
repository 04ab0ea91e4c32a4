"""The comparisons of ``../protocol.md`` from ``results/ROUND/*.parquet``, into ``results/ROUND/summary.json``:
``python -m answer.compare ROUND`` (in ``studies``).
"""

import json
import sys
from collections.abc import Iterable, Mapping

import numpy as np
from answer.collect import MEANS, RESULTS

from c3po_adaptive.analysis.judging_rules import rules
from c3po_adaptive.analysis.over_kinds import compare_over_kinds
from c3po_adaptive.analysis.verdict import corrected
from c3po_adaptive.records.answer import Answered
from c3po_adaptive.records.parquet import read_parquet
from c3po_adaptive.records.summary import Comparison
from c3po_adaptive.storage.files import write_text

MODELS = ("sound", "early", "late", "some")
MIXTURE, SEED = "mixture", 0
KNOWN = ("learned", "reworded")
PARTS = {
    "first": {"": KNOWN, ", others": ("others",), ", everything": (*KNOWN, "others")},
    "second": {"": ("learned",), ", reworded": ("reworded",), ", both": KNOWN},
}
"""Data sets that comparisons are of, by round and by what is added to a model's name; primary comparisons are of the
first.
"""
PRIMARY = (("each", "one for all"), ("each", "each, random neighbours"), ("eight chosen", "last five"))
_AGAIN = (
    ("each", "base"),
    ("one for all", "base"),
    ("last five", "base"),
    ("eight chosen", "base"),
    ("eight chosen", "each"),
    ("eight chosen", "eight random"),
)
SECONDARY = {
    "first": (
        *_AGAIN,
        ("each", "each, shuffled labels"),
        ("each", "calibrated"),
        ("calibrated", "base"),
        ("eight chosen", "eight by leverage"),
        ("four chosen", "base"),
        ("four chosen", "four random"),
        ("four chosen", "last five"),
    ),
    "second": (
        *_AGAIN,
        ("each", "each, random alike"),
        ("each, random neighbours", "base"),
        ("each, random alike", "base"),
        ("eight random", "base"),
    ),
}
"""By round; the primary comparisons are the same."""
AFTERWARDS = (
    ("each", "one for all", ("sound", "late", "some")),
    ("eight random", "last five", MODELS),
)
"""Asked of the second round's answers when all were known, on learned kinds of these models: corrected for nothing."""
WITHOUT_HASH = ("first", "second", "draw", "seed", "told", "beside", "paper")
"""Judged before summaries had the hash of their rules."""

Kept = Mapping[str, list[Answered]]
"""Answers by model."""


def kept(name: str) -> Kept:
    """Answers of a round, of the models that were run."""
    files = {model: RESULTS / name / f"{model}.parquet" for model in MODELS}
    return {model: read_parquet(file) for model, file in files.items() if file.exists()}


def parts(answers: Kept, of_round: Mapping[str, Iterable[str]]) -> dict[str, list[Answered]]:
    """Answers by model, or of all of them together, and by part of a round: a kind's questions are one data set's, in
    both wordings.
    """
    found: dict[str, list[Answered]] = {}
    for of, datasets in of_round.items():
        for model, records in answers.items():
            own = [record for record in records if record.dataset in datasets]
            for name, prefix in ((MIXTURE + of, f"{model}/"), (model + of, "")):
                found.setdefault(name, []).extend(
                    record.model_copy(update={"dataset": name, "id": prefix + record.id}) for record in own
                )
    return found


def compared(records: Iterable[Answered], a: str, b: str) -> Comparison:
    """Arm ``a`` minus arm ``b``, with kinds as the unit."""
    by_arm = grouped(records, "arm")
    found = compare_over_kinds(by_arm[a], by_arm[b], seed=SEED)
    if found is None:
        raise SystemExit(f"Expected several kinds of questions, got one, of {a!r} and {b!r}; run more.")
    return found


def comparisons(of: Mapping[str, list[Answered]], secondary: Iterable[tuple[str, str]]) -> list[Comparison]:
    """Of each part; primary ones, on the mixture, are tested alone, all others Holm-corrected among themselves."""
    found = [compared(records, *pair) for records in of.values() for pair in (*PRIMARY, *secondary)]
    return corrected(found, {(MIXTURE, frozenset(pair), "kind") for pair in PRIMARY})


def rows(of: Mapping[str, list[Answered]]) -> list[dict[str, object]]:
    """Accuracy (mean over kinds), nats and cost of each arm, part by part."""
    return [_row(name, arm, own) for name, records in of.items() for arm, own in grouped(records, "arm").items()]


def grouped(records: Iterable[Answered], by: str) -> dict[str, list[Answered]]:
    """Answers by ``arm``, by ``dataset``, or by kind of question (``subject``), in order of appearance."""
    found: dict[str, list[Answered]] = {}
    for record in records:
        found.setdefault(getattr(record, by), []).append(record)
    return found


def _row(name: str, arm: str, own: list[Answered]) -> dict[str, object]:
    return {
        "part": name,
        "arm": arm,
        "n": len(own),
        "accuracy": round(100 * _over_kinds(own), 3),
        "nats": round(float(np.mean([_nats(record) for record in own])), 4),
        "cost": round(float(np.mean([record.cost.total for record in own])), 3),
        "once": own[0].once,
        "layers": round(float(np.mean([len(record.layers) for record in own])), 2),
    }


def _over_kinds(records: Iterable[Answered]) -> float:
    """Share of right answers, as the mean over kinds."""
    return float(np.mean([np.mean([r.correct for r in own]) for own in grouped(records, "subject").values()]))


def afterwards(answers: Kept) -> list[dict[str, object]]:
    """Comparisons that nobody had named before the answers were known."""
    found = []
    for a, b, models in AFTERWARDS:
        mixture = parts({model: answers[model] for model in models}, {"": ("learned",)})[MIXTURE]
        found.append({"models": list(models), "a": a, "b": b} | _told(compared(mixture, a, b)))
    return found


def hashes(name: str) -> dict[str, str]:
    """Of the rules that judge a round."""
    later = "after the run: these rules judged the kept answers again"
    return {"rules": rules()} | ({"recorded": later} if name in WITHOUT_HASH else {})


def harm(answers: Kept) -> list[dict[str, object]]:
    """What re-mixing does to the sound model, by case."""
    found = []
    for case, records in grouped(answers["sound"], "dataset").items():
        for arm in ("each", "eight chosen", "one for all"):
            found.append({"case": case, "arm": arm} | _told(compared(records, arm, "base")))
    return found


def _told(one: Comparison) -> dict[str, object]:
    return {name: getattr(one, name) for name in ("n", "difference", "ci_low", "ci_high")}


def _nats(record: Answered) -> float:
    scores = np.array(record.scores)
    return float(np.logaddexp.reduce(scores) - scores[record.answer])


def main(name: str) -> None:
    answers = kept(name)
    of = parts(answers, PARTS[name])
    found = comparisons(of, SECONDARY[name])
    summary = {
        "hashes": hashes(name),
        "rows": rows(of),
        "comparisons": [one.model_dump() for one in found],
        "harm": harm(answers),
        "layers": json.loads((RESULTS / name / MEANS).read_text()),
    }
    if name == "second":
        summary["afterwards"] = afterwards(answers)
    write_text(RESULTS / name / "summary.json", json.dumps(summary, indent=1) + "\n")
    for one in found:
        if one.dataset.startswith(MIXTURE):
            interval = f"{one.difference:+.1f} [{one.ci_low:.1f}, {one.ci_high:.1f}]"
            print(f"{one.dataset}: {one.a} − {one.b}: {interval}, p {one.p_holm:.3g}")


if __name__ == "__main__":
    main(sys.argv[1])
