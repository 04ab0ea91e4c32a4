"""The comparisons of ``../protocol.md`` from ``results/*.parquet``, into ``results/summary.json``:
``python -m answer.compare`` (in ``studies``).
"""

import json
from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np

from c3po_adaptive.analysis.holm_families import corrected
from c3po_adaptive.analysis.over_kinds import compare_over_kinds
from c3po_adaptive.records.answer import Answered
from c3po_adaptive.records.parquet import read_parquet
from c3po_adaptive.records.summary import Comparison
from c3po_adaptive.storage.files import write_text

RESULTS = Path(__file__).parent / "results"
MODELS = ("sound", "early", "late", "some")
MIXTURE, SEED = "mixture", 0
PARTS = {"": ("learned", "reworded"), ", others": ("others",), ", everything": ("learned", "reworded", "others")}
"""What comparisons are of, by what is added to a model's name: the first are kinds whose experts exist."""
PRIMARY = (("each", "one for all"), ("each", "each, random neighbours"), ("eight chosen", "last five"))
SECONDARY = (
    ("each", "base"),
    ("each", "each, shuffled labels"),
    ("each", "calibrated"),
    ("one for all", "base"),
    ("calibrated", "base"),
    ("last five", "base"),
    ("eight chosen", "base"),
    ("eight chosen", "each"),
    ("eight chosen", "eight random"),
    ("eight chosen", "eight by leverage"),
    ("four chosen", "base"),
    ("four chosen", "four random"),
    ("four chosen", "last five"),
)

Kept = Mapping[str, list[Answered]]
"""Answers by model."""


def kept() -> Kept:
    """Answers of the models that were run."""
    return {model: read_parquet(file) for model in MODELS if (file := RESULTS / f"{model}.parquet").exists()}


def parts(answers: Kept) -> dict[str, list[Answered]]:
    """Answers by model, or of all of them together, and by part: a kind's questions are one data set's, in both
    wordings.
    """
    found: dict[str, list[Answered]] = {}
    for of, datasets in PARTS.items():
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


def comparisons(of: Mapping[str, list[Answered]]) -> list[Comparison]:
    """Of each part; primary ones, on the mixture, are tested alone, all others Holm-corrected among themselves."""
    found = [compared(records, *pair) for records in of.values() for pair in (*PRIMARY, *SECONDARY)]
    return corrected(found, {(MIXTURE, frozenset(pair), "kind") for pair in PRIMARY})


def rows(of: Mapping[str, list[Answered]]) -> list[dict[str, object]]:
    """Accuracy (mean over kinds), nats and cost of each arm, part by part."""
    return [_row(name, arm, own) for name, records in of.items() for arm, own in grouped(records, "arm").items()]


def grouped(records: Iterable[Answered], by: str) -> dict[str, list[Answered]]:
    """Answers by ``arm``, or by kind of question (``subject``), in order of appearance."""
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


def harm(answers: Kept) -> list[dict[str, object]]:
    """What re-mixing does to the sound model, by case."""
    found = []
    for case in ("learned", "reworded", "others"):
        records = [record for record in answers["sound"] if record.dataset == case]
        for arm in ("each", "eight chosen", "one for all"):
            one = compared(records, arm, "base")
            told = {name: getattr(one, name) for name in ("n", "difference", "ci_low", "ci_high")}
            found.append({"case": case, "arm": arm} | told)
    return found


def _nats(record: Answered) -> float:
    scores = np.array(record.scores)
    return float(np.logaddexp.reduce(scores) - scores[record.answer])


def main() -> None:
    answers = kept()
    of = parts(answers)
    found = comparisons(of)
    summary = {
        "rows": rows(of),
        "comparisons": [one.model_dump() for one in found],
        "harm": harm(answers),
        "layers": json.loads((RESULTS / "layers.json").read_text()),
    }
    write_text(RESULTS / "summary.json", json.dumps(summary, indent=1) + "\n")
    for one in found:
        if one.dataset.startswith(MIXTURE):
            interval = f"{one.difference:+.1f} [{one.ci_low:.1f}, {one.ci_high:.1f}]"
            print(f"{one.dataset}: {one.a} − {one.b}: {interval}, p {one.p_holm:.3g}")


if __name__ == "__main__":
    main()
