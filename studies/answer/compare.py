"""The comparisons of ``../protocol.md`` from ``results/*.parquet``: ``python studies/answer/compare.py`` writes
``results/summary.json`` and the pictures.
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
from c3po_adaptive.tasks.bed import LEARNED, SIBLINGS

RESULTS = Path(__file__).parent / "results"
MODELS = ("sound", "early", "late", "some")
MIXTURE, SEED = "mixture", 0
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


def mixed(answers: Kept) -> list[Answered]:
    """Answers of all models as one data set: a kind's questions are those of every model."""
    return [
        record.model_copy(update={"dataset": MIXTURE, "id": f"{model}/{record.id}"})
        for model, records in answers.items()
        for record in records
    ]


def compared(records: Iterable[Answered], a: str, b: str) -> Comparison:
    """Arm ``a`` minus arm ``b``, with kinds as the unit."""
    by_arm = {arm: [r for r in records if r.arm == arm] for arm in (a, b)}
    found = compare_over_kinds(by_arm[a], by_arm[b], seed=SEED)
    if found is None:
        raise SystemExit(f"Expected several kinds of questions, got one, of {a!r} and {b!r}; run more.")
    return found


def comparisons(answers: Kept) -> list[Comparison]:
    """Primary ones on the mixture, tested alone; all others Holm-corrected among themselves."""
    everything = [*mixed(answers)]
    together = [compared(everything, *pair) for pair in (*PRIMARY, *SECONDARY)]
    each = [
        compared(records, *pair).model_copy(update={"dataset": model})
        for model, records in answers.items()
        for pair in (*PRIMARY, *SECONDARY)
    ]
    return corrected([*together, *each], {(MIXTURE, frozenset(pair), "kind") for pair in PRIMARY})


def rows(answers: Kept) -> list[dict[str, object]]:
    """Accuracy (mean over kinds), nats and cost of each arm on each model and on the mixture."""
    found = []
    for model, records in {**answers, MIXTURE: mixed(answers)}.items():
        for arm in dict.fromkeys(record.arm for record in records):
            own = [record for record in records if record.arm == arm]
            found.append(
                {
                    "model": model,
                    "arm": arm,
                    "n": len(own),
                    "accuracy": round(100 * float(np.mean(list(by_kind(own).values()))), 3),
                    "nats": round(float(np.mean([_nats(record) for record in own])), 4),
                    "cost": round(float(np.mean([record.cost.total for record in own])), 3),
                    "once": own[0].once,
                    "layers": round(float(np.mean([len(record.layers) for record in own])), 2),
                }
            )
    return found


def by_kind(records: Iterable[Answered]) -> dict[str, float]:
    """Share of right answers of each kind."""
    kinds: dict[str, list[bool]] = {}
    for record in records:
        kinds.setdefault(record.subject, []).append(record.correct)
    return {kind: float(np.mean(right)) for kind, right in kinds.items()}


def case_of(kind: str) -> str:
    """Whether experts learned a kind, or others of its family."""
    return "learned" if kind in LEARNED else "sibling" if kind in SIBLINGS else "unknown"


def harm(answers: Kept) -> list[dict[str, object]]:
    """What re-mixing does to the sound model, by case of kind."""
    found = []
    for case in ("learned", "sibling", "unknown"):
        records = [record for record in answers["sound"] if case_of(record.subject) == case]
        for arm in ("each", "eight chosen", "one for all"):
            one = compared(records, arm, "base")
            found.append(
                {"case": case, "arm": arm} | {k: getattr(one, k) for k in ("n", "difference", "ci_low", "ci_high")}
            )
    return found


def _nats(record: Answered) -> float:
    scores = np.array(record.scores)
    return float(np.logaddexp.reduce(scores) - scores[record.answer])


def main() -> None:
    answers = kept()
    summary = {
        "rows": rows(answers),
        "comparisons": [one.model_dump() for one in comparisons(answers)],
        "harm": harm(answers),
        "layers": json.loads((RESULTS / "layers.json").read_text()),
    }
    write_text(RESULTS / "summary.json", json.dumps(summary, indent=1) + "\n")
    for one in comparisons(answers):
        if one.dataset == MIXTURE:
            print(f"{one.a} − {one.b}: {one.difference:+.1f} [{one.ci_low:.1f}, {one.ci_high:.1f}] p {one.p_holm:.3g}")


if __name__ == "__main__":
    main()
