"""What the second round says, and several texts a question: ``python -m poisoned.again NAME=RUN …`` (in ``studies``),
with the names in ``ROUNDS``, keeps each run's answers as ``results/NAME.parquet``, and makes ``results/again.json`` and
``results/colluding.json`` anew from those that are kept.
"""

import json
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path

from long.compare import estimate
from poisoned.compare import RESULTS, Answers, answered_by_all, by_arm, keep, rows, table

from c3po_adaptive.analysis.statistics import compare
from c3po_adaptive.analysis.verdict import corrected
from c3po_adaptive.records.answer import Answered
from c3po_adaptive.records.parquet import read_parquet
from c3po_adaptive.records.summary import Comparison
from c3po_adaptive.storage.files import write_text

PRIMARY = (("crafted 30", "capped", "nearest"), ("flipped 30", "agreeing", "nearest"))
DEFENCES = ("capped", "median of means", "agreeing", "consistent")
CONTROLS = ("random alike", "shuffled labels")
ROUNDS = {"again": ("again", "controls", "paper"), "colluding": ("colluding",)}
"""Runs by what they are told in."""
CLEAN, PAPER, SEED = "clean", ", paper", 0


def kept(name: str = "again", folder: Path = RESULTS) -> Answers:
    """Answers by data set, of questions that every arm answered; those in the paper's setting end in ``, paper``."""
    found: dict[str, list[Answered]] = {}
    for run in ROUNDS[name]:
        for record in read_parquet(folder / f"{run}.parquet"):
            dataset = record.dataset + (PAPER if run == "paper" else "")
            if run != "controls" or record.arm != "base":  # it answered the same in `again`, which a test checks
                found.setdefault(dataset, []).append(record.model_copy(update={"dataset": dataset}))
    return {dataset: answered_by_all(records) for dataset, records in found.items()}


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


def lost(answers: Answers, second: Answers) -> list[dict[str, object]]:
    """What each arm gains on a data set less what it gains on the clean one of the second round, in points, question by
    question.
    """
    found = []
    for name, records in answers.items():
        own, clean = (gains_of(by_arm(of)) for of in (records, second[CLEAN + PAPER * name.endswith(PAPER)]))
        for arm in own if own != clean else ():
            if arm in clean:
                each = [gain - clean[arm][id_] for id_, gain in own[arm].items()]
                told = {key: 100 * value for key, value in estimate(each).items()}
                found.append({"dataset": name, "arm": arm, "n": len(each)} | told)
    return found


def gains_of(arms: Mapping[str, Iterable[Answered]]) -> dict[str, dict[str, float]]:
    """Of each arm and question: one where it alone is right, minus one where the base alone is."""
    right = {arm: {record.id: float(record.correct) for record in own} for arm, own in arms.items()}
    return {
        arm: {id_: value - right["base"][id_] for id_, value in own.items()}
        for arm, own in right.items()
        if arm != "base"
    }


def summary(name: str, folder: Path = RESULTS) -> dict[str, object]:
    """All that the page says of a round."""
    answers = kept(name, folder)
    found = [one.model_dump() for one in comparisons(answers)]
    return {"rows": rows(answers), "comparisons": found, "lost": lost(answers, kept(folder=folder))}


def main(runs: Mapping[str, str]) -> None:
    keep(runs)
    for name, files in ROUNDS.items():
        if not all((RESULTS / f"{run}.parquet").exists() for run in files):
            continue
        found = summary(name)
        write_text(RESULTS / f"{name}.json", json.dumps(found, indent=1) + "\n")
        compared = comparisons(kept(name))
        for one in compared:
            interval = f"{one.difference:+.1f} [{one.ci_low:+.1f}, {one.ci_high:+.1f}]"
            print(f"{one.dataset}: {one.a} − {one.b}: {interval}, p {one.p_holm:.3g}{' (primary)' * one.primary}")
        print("lost", json.dumps(found["lost"], indent=1))
        print(table(one for one in compared if not one.dataset.endswith(PAPER)))


if __name__ == "__main__":
    main(dict(argument.split("=", 1) for argument in sys.argv[1:]))
