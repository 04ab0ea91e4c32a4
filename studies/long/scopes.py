"""What the second round says (``scopes.yaml``): ``python -m long.scopes RUN`` (in ``studies``) keeps its answers, and
what share of neighbours' weight is on the question's kind, and makes ``results/scopes.json`` and its picture from
these; without RUN from what is kept.
"""

import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from long.collect import of_own_kind
from long.compare import ALONE, RESULTS, estimate, percent, right
from matplotlib import pyplot as plt
from matplotlib.figure import Figure

from c3po_adaptive.analysis.statistics import compare
from c3po_adaptive.analysis.verdict import corrected
from c3po_adaptive.pictures import save_picture
from c3po_adaptive.records.answer import Answered, AnswerRecord
from c3po_adaptive.records.jsonl import read_records
from c3po_adaptive.records.parquet import read_parquet, write_parquet
from c3po_adaptive.records.summary import Comparison
from c3po_adaptive.storage.files import write_text

WHOLE, QUESTION = "512", "512, by the question"
SETS = (ALONE, WHOLE, QUESTION)
PRIMARY = (QUESTION, "each", "base")
SCOPES = {"each": "every token", "each, answer": "last and answer", "each, last": "last"}
CONTROLS = ("each, random alike", "each, shuffled labels", "one for all")
COLORS = {ALONE: "#9aa3ad", WHOLE: "#b5431f", QUESTION: "#1f8a5b"}

Arms = Mapping[str, Sequence[Answered]]


def kept() -> dict[str, dict[str, list[Answered]]]:
    """Answers by data set, and by arm."""
    found: dict[str, dict[str, list[Answered]]] = {name: {} for name in SETS}
    for record in read_parquet(RESULTS / "scopes.parquet"):
        found[record.dataset].setdefault(record.arm, []).append(record)
    return found


def comparisons(answers: Mapping[str, Arms]) -> list[Comparison]:
    """Each arm − base and ``each`` − its controls, on each data set; the primary one is tested alone."""
    pairs = [*((arm, "base") for arm in (*SCOPES, *CONTROLS)), *(("each", arm) for arm in CONTROLS)]
    found = [compare(arms[a], arms[b], seed=0) for arms in answers.values() for a, b in pairs]
    return corrected(found, {(PRIMARY[0], frozenset(PRIMARY[1:]), "question")})


def gains(arms: Arms, arm: str) -> dict[str, float]:
    """By question, what it wins over the base: one, nothing or minus one."""
    base = right(arms["base"])
    return {id_: won - base[id_] for id_, won in right(arms[arm]).items()}


def summary() -> dict[str, Any]:
    """All that the page says of this round."""
    answers, near = kept(), json.loads((RESULTS / "scopes_neighbours.json").read_text())
    won = {name: gains(arms, "each") for name, arms in answers.items()}
    less = {}
    for a, b in ((QUESTION, WHOLE), (QUESTION, ALONE), (WHOLE, ALONE)):
        each = estimate([value - won[b][id_] for id_, value in won[a].items()])
        less[f"{a} − {b}"] = {name: 100 * value for name, value in each.items()}
    return {
        "accuracy": {n: {a: percent(right(own).values()) for a, own in arms.items()} for n, arms in answers.items()},
        "comparisons": [one.model_dump(mode="json") for one in comparisons(answers)],
        "each wins less": less,
        "weight on own kind": {name: percent(near[name]) for name in SETS},
    }


def picture(found: Mapping[str, Any]) -> Figure:
    """What re-mixing wins at each scope, on each data set, with 95 % intervals."""
    figure, axis = plt.subplots(figsize=(6.5, 2.8), layout="constrained")
    of = {(one["dataset"], one["a"]): one for one in found["comparisons"] if one["b"] == "base"}
    for place, (name, color) in enumerate(COLORS.items()):
        rows = [of[name, arm] for arm in SCOPES]
        at = [row + 0.22 * (place - 1) for row in range(len(rows))]
        axis.hlines(at, [one["ci_low"] for one in rows], [one["ci_high"] for one in rows], color=color, linewidth=1.4)
        label = {ALONE: "alone", WHOLE: "behind 512 tokens", QUESTION: "behind them, neighbours by the question"}[name]
        axis.plot([one["difference"] for one in rows], at, "o", color=color, markersize=5, label=label)
    axis.axvline(0, color="#24292f", linewidth=0.8)
    axis.set_yticks(range(len(SCOPES)), [*SCOPES.values()])
    axis.invert_yaxis()
    axis.set(xlabel="points over the model as it is", ylabel="tokens re-mixed")
    axis.legend(frameon=False, fontsize=8, ncols=3, loc="lower left", bbox_to_anchor=(-0.2, 1))
    return figure


def main(runs: Sequence[str]) -> None:
    for run in runs:
        answers = list(read_records(Path(run), AnswerRecord))
        write_parquet(answers, RESULTS / "scopes.parquet")
        write_text(RESULTS / "scopes_neighbours.json", json.dumps(of_own_kind(answers, "each")) + "\n")
    told = summary()
    write_text(RESULTS / "scopes.json", json.dumps(told, indent=1, ensure_ascii=False) + "\n")
    save_picture(picture(told), RESULTS / "scopes.svg")
    for one in told["comparisons"]:
        interval = f"{one['difference']:+.1f} [{one['ci_low']:.1f}, {one['ci_high']:.1f}]"
        print(f"{one['dataset']}: {one['a']} − {one['b']}: {interval}, p {one['p_holm']:.2g}")
    print(json.dumps({key: told[key] for key in ("accuracy", "each wins less", "weight on own kind")}, indent=1))


if __name__ == "__main__":
    main(sys.argv[1:])
