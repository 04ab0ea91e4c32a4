"""From runs to what is kept and told of them: ``python -m knowledge.compare early=RUN,CONTROLS …`` (in ``studies``)

Of each model ``results/MODEL.parquet`` (every answer), and of all ``results/summary.json`` and ``results/gains.svg``.
"""

import json
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np
from answer.compare import _nats, compared, grouped
from answer.pictures import GREY, INK, STYLE
from knowledge.facts import FACTS
from matplotlib import pyplot as plt
from matplotlib.figure import Figure

from c3po_adaptive.analysis.verdict import corrected
from c3po_adaptive.records.answer import Answered, AnswerRecord
from c3po_adaptive.records.jsonl import read_records
from c3po_adaptive.records.parquet import read_parquet, write_parquet
from c3po_adaptive.records.summary import Comparison
from c3po_adaptive.storage.files import write_text

RESULTS = Path(__file__).parent / "results"
MODELS = ("early", "sound")
PRIMARY = ("joint", "chosen")
CONTROLS = ("random neighbours", "one for all", "shuffled labels", "others' passages")
BESIDE = ("chosen", "text", "pathway", "both", "text summed", "joint, priced", "base")
PICTURED = ("text", "pathway", "both", "chosen", "text summed", "joint", "joint, priced")
PARTS = {"": lambda kind: True, ", passage": FACTS.__contains__, ", none": lambda kind: kind not in FACTS}
"""What of a model's kinds is compared: all, those of which a passage decides, and the others."""

Parts = Mapping[str, list[Answered]]


def parts(answers: Mapping[str, Iterable[Answered]]) -> dict[str, list[Answered]]:
    """Answers by model and part."""
    return {
        model + part: [r.model_copy(update={"dataset": model + part}) for r in records if of(r.subject)]
        for model, records in answers.items()
        for part, of in PARTS.items()
    }


def comparisons(of: Parts) -> list[Comparison]:
    """``joint`` minus each other arm in each part; the primary one is tested alone, others Holm among themselves."""
    found = []
    for records in of.values():
        arms = {record.arm for record in records}
        others = [arm for arm in (*BESIDE, *(f"joint, {control}" for control in CONTROLS)) if arm in arms]
        found += [compared(records, "joint", arm) for arm in others]
    return corrected(found, {("early", frozenset(PRIMARY), "kind")})


def rows(of: Parts) -> list[dict[str, object]]:
    """Accuracy (mean over kinds), nats of the right answer and cost in base forwards of each arm, part by part."""
    return [
        {
            "part": part,
            "arm": arm,
            "n": len(own),
            "accuracy": round(
                100 * float(np.mean([np.mean([r.correct for r in k]) for k in grouped(own, "subject").values()])), 3
            ),
            "nats": round(float(np.mean([_nats(r) for r in own])), 4),
            "cost": round(float(np.mean([r.cost.total for r in own])), 3),
        }
        for part, records in of.items()
        for arm, own in grouped(records, "arm").items()
    ]


def gains(of: Parts) -> Figure:
    """What each arm wins over the model as it is, on both sorts of kinds."""
    models = [model for model in MODELS if model in of]
    arms = [arm for arm in reversed(PICTURED) if any(arm == record.arm for record in of[models[0]])]
    figure, axes = plt.subplots(
        len(models),
        2,
        figsize=(7.5, 0.5 + 2 * len(models)),
        sharex=True,
        sharey=True,
        layout="constrained",
        squeeze=False,
    )
    for row, model in enumerate(models):
        for axis, (part, title) in zip(
            axes[row], ((", passage", "a passage decides"), (", none", "none does")), strict=True
        ):
            for place, arm in enumerate(arms):
                one = compared(of[model + part], arm, "base")
                axis.barh(place, one.difference, color="#1f63b5" if arm == "joint" else GREY, height=0.7)
                axis.plot([one.ci_low, one.ci_high], [place, place], color=INK, linewidth=1)
            axis.axvline(0, color=INK, linewidth=0.8)
            axis.set_title(f"{model}: {title}", fontsize=9)
            axis.set_yticks(range(len(arms)), arms)
    figure.supxlabel("points over the model as it is", fontsize=9)
    return figure


def kept() -> dict[str, list[Answered]]:
    """Answers of each model that was run."""
    return {m: read_parquet(RESULTS / f"{m}.parquet") for m in MODELS if (RESULTS / f"{m}.parquet").exists()}


def told(answers: Mapping[str, Iterable[Answered]]) -> dict[str, object]:
    """All that is said of them."""
    of = parts(answers)
    return {"rows": rows(of), "comparisons": [one.model_dump() for one in comparisons(of)]}


def main(runs: Mapping[str, str]) -> None:
    RESULTS.mkdir(exist_ok=True)
    for model, folders in runs.items():
        records = [r for folder in folders.split(",") for r in read_records(Path(folder), AnswerRecord)]
        write_parquet(list({(r.arm, r.id): r for r in records}.values()), RESULTS / f"{model}.parquet")
    answers = kept()
    write_text(RESULTS / "summary.json", json.dumps(told(answers), indent=1) + "\n")
    with plt.rc_context(STYLE):
        gains(parts(answers)).savefig(RESULTS / "gains.svg", metadata={"Date": None})
    for one in comparisons(parts(answers)):
        print(f"{one.dataset}: {one.a} − {one.b}: {one.difference:+.1f} [{one.ci_low:.1f}, {one.ci_high:.1f}]")


if __name__ == "__main__":
    main(dict(argument.split("=", 1) for argument in sys.argv[1:]))
