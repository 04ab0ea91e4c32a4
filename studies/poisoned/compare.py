"""From runs to what the study says: ``python -m poisoned.compare early=RUN shares=RUN sound=RUN …`` (in ``studies``).

Keeps each run's answers as ``results/NAME.parquet``, without pathways, and makes ``results/summary.json`` anew from
those that are kept: every comparison of the protocol (README.md).
"""

import json
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np

from c3po_adaptive.analysis.statistics import compare
from c3po_adaptive.analysis.verdict import corrected
from c3po_adaptive.records.answer import Answered, AnswerRecord
from c3po_adaptive.records.jsonl import read_records
from c3po_adaptive.records.parquet import read_parquet, write_parquet
from c3po_adaptive.records.summary import Comparison
from c3po_adaptive.storage.files import write_text

RESULTS = Path(__file__).parent / "results"
RUNS = ("early", "shares", "sound", "beside")
PRIMARY = (("crafted 30", "capped", "nearest"), ("flipped 30", "consistent", "nearest"))
DEFENCES = ("capped", "median of means", "consistent", "successful")
SEED = 0

Answers = Mapping[str, list[Answered]]
"""By data set; those of the sound model end in ``, sound``."""


def kept(folder: Path = RESULTS) -> dict[str, list[Answered]]:
    """Answers of the runs that are kept, by data set; of a run that was ended early, to questions that all arms of it
    answered there."""
    found: dict[str, list[Answered]] = {}
    for run in RUNS:
        if (file := folder / f"{run}.parquet").exists():
            for record in read_parquet(file):
                name = record.dataset + (", sound" if run == "sound" else "")
                if run != "beside" or record.arm != "base":  # it stands in `early`
                    found.setdefault(name, []).append(record.model_copy(update={"dataset": name}))
    return {name: answered_by_all(records) for name, records in found.items()}


def answered_by_all(records: list[Answered]) -> list[Answered]:
    """Those to questions that every arm among them answered."""
    both = set.intersection(*({record.id for record in own} for own in by_arm(records).values()))
    return [record for record in records if record.id in both]


def by_arm(records: Iterable[Answered]) -> dict[str, list[Answered]]:
    """Answers of one data set by arm, in order of appearance."""
    found: dict[str, list[Answered]] = {}
    for record in records:
        found.setdefault(record.arm, []).append(record)
    return found


def comparisons(answers: Answers) -> list[Comparison]:
    """Each arm − base on each data set, and each defence − ``nearest``; the primary ones are tested alone."""
    found = []
    for records in answers.values():
        arms = by_arm(records)
        pairs = [(arm, "base") for arm in arms if arm != "base"]
        pairs += [(arm, "nearest") for arm in arms if arm in (*DEFENCES, "abstaining", "random alike")]
        found += [compare(arms[a], arms[b], seed=SEED) for a, b in pairs]
    return corrected(found, {(dataset, frozenset((a, b)), "question") for dataset, a, b in PRIMARY})


def rows(answers: Answers) -> list[dict[str, object]]:
    """Accuracy and cost of each arm on each data set."""
    return [
        {
            "dataset": dataset,
            "arm": arm,
            "n": len(own),
            "accuracy": round(100 * float(np.mean([record.correct for record in own])), 2),
            "cost": round(float(np.mean([record.cost.total for record in own])), 2),
        }
        for dataset, records in answers.items()
        for arm, own in by_arm(records).items()
    ]


def table(found: Iterable[Comparison]) -> str:
    """Points over the model as it is, in Markdown: a row a data set, a column an arm."""
    gains = {(one.dataset, one.a): one for one in found if one.b == "base"}
    arms = list(dict.fromkeys(arm for _, arm in gains))
    lines = [f"| data | {' | '.join(arms)} |", f"| --- |{' ---: |' * len(arms)}"]
    for dataset in dict.fromkeys(name for name, _ in gains):
        lines.append(f"| {dataset} | {' | '.join(_cell(gains.get((dataset, arm))) for arm in arms)} |")
    return "\n".join(lines)


def _cell(one: Comparison | None) -> str:
    return "" if one is None else f"{one.difference:+.1f} [{one.ci_low:.1f}, {one.ci_high:.1f}]".replace("-", "−")


def keep(runs: Mapping[str, str]) -> None:
    """Each run's answers, without pathways, by its name here."""
    RESULTS.mkdir(exist_ok=True)
    for name, run in runs.items():
        write_parquet(read_records(Path(run), AnswerRecord), RESULTS / f"{name}.parquet")


def main(runs: Mapping[str, str]) -> None:
    keep(runs)
    answers = kept()
    found = comparisons(answers)
    told = {"rows": rows(answers), "comparisons": [one.model_dump() for one in found]}
    write_text(RESULTS / "summary.json", json.dumps(told, indent=1) + "\n")
    for one in found:
        interval = f"{one.difference:+.1f} [{one.ci_low:+.1f}, {one.ci_high:+.1f}]"
        print(f"{one.dataset}: {one.a} − {one.b}: {interval}, p {one.p_holm:.3g}{' (primary)' * one.primary}")
    print(table(found))


if __name__ == "__main__":
    main(dict(argument.split("=", 1) for argument in sys.argv[1:]))
