"""What the second round says: ``python -m poisoned.again again=RUN controls=RUN paper=RUN`` (in ``studies``) keeps each
run's answers as ``results/NAME.parquet``, and makes ``results/again.json`` anew from those that are kept.
"""

import json
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path

from long.compare import estimate
from poisoned.compare import RESULTS, Answers, answered_by_all, by_arm, keep, rows, table

from c3po_adaptive.analysis.holm_families import corrected
from c3po_adaptive.analysis.statistics import compare
from c3po_adaptive.records.answer import Answered
from c3po_adaptive.records.parquet import read_parquet
from c3po_adaptive.records.summary import Comparison
from c3po_adaptive.storage.files import write_text

PRIMARY = (("crafted 30", "capped", "nearest"), ("flipped 30", "agreeing", "nearest"))
DEFENCES = ("capped", "median of means", "agreeing", "consistent")
CONTROLS = ("random alike", "shuffled labels")
CLEAN, PAPER, SEED = "clean", ", paper", 0


def kept(folder: Path = RESULTS) -> Answers:
    """Answers by data set, of questions that every arm answered; those in the paper's setting end in ``, paper``."""
    found: dict[str, list[Answered]] = {}
    for run in ("again", "controls", "paper"):
        if (file := folder / f"{run}.parquet").exists():
            for record in read_parquet(file):
                name = record.dataset + (PAPER if run == "paper" else "")
                if run != "controls" or record.arm != "base":  # it stands in `again`
                    found.setdefault(name, []).append(record.model_copy(update={"dataset": name}))
    return {name: answered_by_all(records) for name, records in found.items()}


def comparisons(answers: Answers) -> list[Comparison]:
    """Each arm − base on each data set, each defence − ``nearest``, and ``nearest`` − its controls on the clean one.

    The primary ones are tested alone.
    """
    found = []
    for name, records in answers.items():
        arms = by_arm(records)
        pairs = [(arm, "base") for arm in arms if arm != "base"]
        pairs += [(arm, "nearest") for arm in DEFENCES if arm in arms]
        pairs += [("nearest", arm) for arm in CONTROLS if arm in arms and name == CLEAN]
        found += [compare(arms[a], arms[b], seed=SEED) for a, b in pairs]
    return corrected(found, {(name, frozenset((a, b)), "question") for name, a, b in PRIMARY})


def lost(answers: Answers) -> list[dict[str, object]]:
    """What each arm gains on a data set less what it gains on the clean one, in points, question by question."""
    gains = {name: gains_of(by_arm(records)) for name, records in answers.items()}
    found = []
    for name, arms in gains.items():
        clean = gains.get(CLEAN + PAPER if name.endswith(PAPER) else CLEAN, {})
        for arm, own in arms.items():
            if clean is not arms and arm in clean:
                told = estimate([own[id_] - clean[arm][id_] for id_ in own if id_ in clean[arm]])
                found.append({"dataset": name, "arm": arm} | {key: 100 * value for key, value in told.items()})
    return found


def gains_of(arms: Mapping[str, Iterable[Answered]]) -> dict[str, dict[str, float]]:
    """Of each arm and question: one where it alone is right, minus one where the base alone is."""
    right = {arm: {record.id: float(record.correct) for record in own} for arm, own in arms.items()}
    return {
        arm: {id_: value - right["base"][id_] for id_, value in own.items()}
        for arm, own in right.items()
        if arm != "base"
    }


def summary(answers: Answers) -> dict[str, object]:
    """All that the page says of the second round."""
    found = [one.model_dump() for one in comparisons(answers)]
    return {"rows": rows(answers), "comparisons": found, "lost": lost(answers)}


def main(runs: Mapping[str, str]) -> None:
    keep(runs)
    answers = kept()
    write_text(RESULTS / "again.json", json.dumps(summary(answers), indent=1) + "\n")
    found = comparisons(answers)
    for one in found:
        interval = f"{one.difference:+.1f} [{one.ci_low:+.1f}, {one.ci_high:+.1f}]"
        print(f"{one.dataset}: {one.a} − {one.b}: {interval}, p {one.p_holm:.3g}{' (primary)' * one.primary}")
    for row in lost(answers):
        print("lost", row)
    print(table(one for one in found if not one.dataset.endswith(PAPER)))


if __name__ == "__main__":
    main(dict(argument.split("=", 1) for argument in sys.argv[1:]))
