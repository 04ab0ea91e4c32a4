"""The comparisons of ``README.md`` from ``results/*.parquet``, and their picture: ``python -m pictures.compare`` (in
``studies``).
"""

import json
import random
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from answer.pictures import GREY, INK, STYLE
from matplotlib import pyplot as plt
from matplotlib.figure import Figure
from pictures import make

from c3po_adaptive.analysis import statistics as stats
from c3po_adaptive.pictures import save_picture
from c3po_adaptive.records.answer import Answered
from c3po_adaptive.records.parquet import read_parquet
from c3po_adaptive.storage.files import write_text

RESULTS = Path(__file__).parent / "results"
MODELS = ("broken", "sound")
ARMS = ("base", "constant", "shuffled labels", "random neighbours", "nearest")
OTHERS = ("constant", "random neighbours", "shuffled labels", "base")
"""What ``nearest`` is compared with; first the primary comparison's."""

Arms = Mapping[str, list[Answered]]


def kept(model: str) -> Arms:
    """Answers of a model by arm."""
    found: dict[str, list[Answered]] = {}
    for record in read_parquet(RESULTS / f"{model}.parquet"):
        found.setdefault(record.arm, []).append(record)
    return found


def compared(a: list[Answered], b: list[Answered]) -> dict[str, Any]:
    """What one wins over the other, in points, with its interval."""
    return stats.compare(a, b, seed=0).model_dump(mode="json", exclude={"dataset"})


def kinds() -> dict[str, str]:
    """Of each test question by its id: its kind, as ``make.py`` draws it."""
    rng = random.Random(f"{make.SEED} test")
    return {q.id: q.task for q in (make.question(rng, f"test-{i}") for i in range(make.PARTS["test"]))}


def accuracies(arms: Arms) -> dict[str, dict[str, float]]:
    """Of each arm: over all questions, and by kind of question; in percent."""
    found, of = {}, kinds()
    for arm, records in arms.items():
        parts = {"all": records} | {kind: [r for r in records if of[r.id] == kind] for kind in make.KINDS}
        found[arm] = {part: 100 * stats.mean(several, stats.is_correct) for part, several in parts.items()}
    return found


def summary() -> dict[str, Any]:
    """Of each model: accuracies and comparisons; and what the sound one is ahead of the broken one."""
    answers = {model: kept(model) for model in MODELS}
    found: dict[str, Any] = {
        model: {
            "questions": len({r.id for r in arms["base"]}),
            "accuracy": accuracies(arms),
            "comparisons": [compared(arms["nearest"], arms[other]) for other in OTHERS],
            "constant − base": compared(arms["constant"], arms["base"]),
        }
        for model, arms in answers.items()
    }
    sound = answers["sound"]["base"]
    both = {r.id for r in sound}
    for arm in ("base", "nearest"):
        broken = [r for r in answers["broken"][arm] if r.id in both]
        found[f"sound base − broken {arm}"] = compared(sound, broken)
    return found


def picture(found: Mapping[str, Any]) -> Figure:
    """What ``nearest`` wins over each other arm on each model; how right each is stands beside its name."""
    figure, axes = plt.subplots(1, len(MODELS), figsize=(7.5, 2.0), sharex=True, layout="constrained")
    for axis, model in zip(axes, MODELS, strict=True):
        right = found[model]["accuracy"]
        for place, one in enumerate(reversed(found[model]["comparisons"])):
            axis.plot([one["ci_low"], one["ci_high"]], [place] * 2, color=INK, linewidth=1.5)
            axis.plot(one["difference"], place, "o", color=INK, markersize=4)
        axis.axvline(0, color=GREY, linewidth=0.8)
        axis.set_yticks(range(len(OTHERS)), [f"{arm} ({right[arm]['all']:.0f} %)" for arm in reversed(OTHERS)])
        axis.set_title(f"{model}: nearest ({right['nearest']['all']:.0f} %) less …", fontsize=9)
        axis.set_xlabel("points")
    return figure


if __name__ == "__main__":
    told = summary()
    write_text(RESULTS / "summary.json", json.dumps(told, indent=1, ensure_ascii=False) + "\n")
    with plt.rc_context(STYLE):
        save_picture(picture(told), RESULTS / "gains.svg")
