"""The best try of each arm, and what is asked of a model next, from ``studies/``: ``python -m merged.choose RUN …
--questions FILE --out FOLDER``, with the folder of a run of ``arms.yaml``, and of one of ``second.yaml``; or of the
second, and the tries that the first left behind (``results/arms/CASE.json``).
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer
import yaml

from c3po_adaptive.analysis import statistics as stats
from c3po_adaptive.cli.terminal import clear_errors
from c3po_adaptive.errors import DataError
from c3po_adaptive.records.answer import AnswerRecord
from c3po_adaptive.records.jsonl import read_records
from c3po_adaptive.storage.files import write_text
from c3po_adaptive.storage.run_folder import claimed_config

from .fresh import ARMS

BASE, APART, PUBLISHED = "base", " / ", "published"
CONTROLS: Mapping[str, Mapping[str, Any]] = {
    "each, shuffled labels": {"labels": "shuffled"},
    "each, random alike": {
        "retriever": {"name": "random", "k": 300},
        "kernel": {"name": "gaussian", "length_scale": 1000},
    },
}
"""Of ``each``, as it was chosen: what they have in its place."""
UNTUNED: Mapping[str, Any] = {"optimizer": {"name": "integrated-step", "lr": None}, "loss": "choices"}
"""What ``nearest`` has in place of the settings of ``each``: the references choose its dose."""
COMPARED = (
    *(
        ("each", rival)
        for rival in ("one for all", "one a cluster", "one a kind, told", "router tuning", "lora", "repaired")
    ),
    *(("each", rival) for rival in ("nearest", "in context", "calibrated", "knn labels", "ngd", *CONTROLS)),
    *(("five chosen", rival) for rival in ("each", "five random", "first five", "last five")),
    *(("eight chosen", rival) for rival in ("each", "last five")),
)

app = typer.Typer(no_args_is_help=True)
Try = dict[str, Any]
"""Of an arm: what it was called, and what came of it."""


def tries(records: Sequence[AnswerRecord], names: Collection[str]) -> dict[str, list[Try]]:
    """By arm, each of its tries: accuracy in percent, mean loss of the right choice in nats, cost of a question in base
    forwards and in seconds, and what was spent once, in base forwards, on average over data sets.

    Args:
        records: answers to validation questions.
        names: of all tries.

    Raises:
        DataError: a try has not answered all questions.
    """
    by_try: dict[str, list[AnswerRecord]] = {}
    for record in records:
        by_try.setdefault(record.arm, []).append(record)
    found: dict[str, list[Try]] = {}
    for name, own in by_try.items():
        arm, _, setting = name.partition(APART)
        found.setdefault(arm, []).append(
            {
                "setting": setting,
                "questions": len(own),
                "accuracy": 100 * stats.mean(own, stats.is_correct),
                "loss": stats.mean(own, stats.gold_nll),
                "cost": stats.mean(own, stats.total_cost),
                "seconds": stats.mean(own, lambda record: record.seconds),
                "once": _once(own),
            }
        )
    answered = {name: len(by_try.get(name, ())) for name in names}
    if behind := [name for name, number in answered.items() if number < max(answered.values())]:
        raise DataError(
            f"Expected {max(answered.values())} answers of each try, got {answered[behind[0]]} of {behind[0]!r}; give "
            "the run's command again to finish it."
        )
    return found


def _once(own: Sequence[AnswerRecord]) -> float | None:
    """None: of some data set it was not recorded."""
    by_set = [*{record.dataset: record.once for record in own}.values()]
    return None if None in by_set else sum(once or 0.0 for once in by_set) / len(by_set)


def order(one: Try) -> tuple[float, float]:
    """By accuracy, and equals by loss: the better a try, the later it comes."""
    return one["accuracy"], -one["loss"]


def best(of: Sequence[Try]) -> Try:
    """The most accurate try; of equals that of the least loss."""
    return max(of, key=order)


def read_tries(run: Path) -> tuple[dict[str, Any], dict[str, list[Try]]]:
    """A run's configuration, and by arm what came of each try. Of a file of ``results/arms``, which a run of
    ``arms.yaml`` has left behind: that configuration.

    Raises:
        DataError: it is no run, or a try has not answered all questions.
    """
    if run.suffix == ".json":
        return yaml.safe_load(ARMS.read_text(encoding="utf-8")), json.loads(run.read_text(encoding="utf-8"))
    config = claimed_config(run)
    config.pop("inputs", None)
    return config, tries(read_records(run, AnswerRecord), config["arms"])


def chosen_arms(of: Mapping[str, Any], chosen: Mapping[str, str]) -> dict[str, Any]:
    """Each arm as it was chosen, and beside them those that are as published.

    Args:
        of: the arms of all tries.
        chosen: setting by arm.
    """
    arms = {arm: of[f"{arm}{APART}{setting}" if setting else arm] for arm, setting in chosen.items()}
    return arms | {name.replace(APART, ", "): arm for name, arm in of.items() if name.endswith(APART + PUBLISHED)}


def asked_next(config: Mapping[str, Any], chosen: Mapping[str, str], questions: str) -> dict[str, Any]:
    """The configuration of a run over other questions.

    Args:
        config: of the tries.
        chosen: setting by arm.
        questions: a file.
    """
    arms = chosen_arms(config["arms"], chosen)
    arms |= {name: {**arms["each"], **other, "control_of": ["each"]} for name, other in CONTROLS.items()}
    arms["nearest"] = {**arms["each"], **UNTUNED}
    (dataset,) = config["datasets"]
    asked = {**dataset, "questions": questions, "split": None, "limit": None}
    compared = [[*pair] for pair in COMPARED if {*pair} <= arms.keys()]
    return {**config, "datasets": [asked], "arms": arms, "headline": "each", "compare": compared}


def table(found: Mapping[str, Sequence[Try]]) -> str:
    """A row an arm: its best try."""
    lines = [
        "| arm | chosen | right, % | loss, nats | its tries, % | forwards a question | once, forwards | s a question |",
        "| --- | --- | ---: | ---: | --- | ---: | ---: | ---: |",
    ]
    for arm, of in found.items():
        one, every = best(of), ", ".join(f"{x['accuracy']:.1f}" for x in of)
        lines.append(
            f"| {arm} | {one['setting']} | {one['accuracy']:.1f} | {one['loss']:.3f} | {every} | {one['cost']:.1f} | "
            f"{one['once'] or 0:.0f} | {one['seconds']:.2f} |"
        )
    return "\n".join(lines)


def read_several(runs: Sequence[Path]) -> tuple[dict[str, Any], dict[str, list[Try]]]:
    """The same of several runs on the same questions: the first one's configuration, with the arms of all. A try that
    is in two of them counts once, as the first has it.

    Raises:
        DataError: one is no run, a try has not answered all questions, or they were not asked the same.
    """
    (config, found), *others = [read_tries(run) for run in runs]
    for other, more in others:
        for arm, of in more.items():
            before = found.get(arm, [])
            known = {one["setting"] for one in before}
            found[arm] = [*before, *(one for one in of if one["setting"] not in known)]
        config = {**config, "arms": other["arms"] | config["arms"]}
    if len(counts := {one["questions"] for of in found.values() for one in of}) > 1:
        raise DataError(f"Expected tries on the same questions, got some on {sorted(counts)} of them.")
    return config, found


@app.command()
@clear_errors()
def choose(
    runs: Annotated[list[Path], typer.Argument(help="Folders of runs of arms.yaml and second.yaml, or kept tries.")],
    questions: Annotated[str, typer.Option(help="What the chosen arms are asked.")],
    out: Annotated[Path, typer.Option(help="A folder: test.yaml, tries.json.")],
) -> None:
    """Choose each arm's try by accuracy, then loss, and write the configuration that asks the chosen ones."""
    config, found = read_several(runs)
    write_chosen(out, asked_next(config, settings(found), questions), found)


def settings(found: Mapping[str, Sequence[Try]]) -> dict[str, str]:
    """Of each arm, that of its best try."""
    return {arm: best(of)["setting"] for arm, of in found.items()}


def write_chosen(out: Path, config: Mapping[str, Any], found: Mapping[str, Sequence[Try]]) -> None:
    """What is asked next, and what came of the tries: ``test.yaml`` and ``tries.json`` in a folder, and a table of the
    best at the terminal.
    """
    out.mkdir(parents=True, exist_ok=True)
    write_text(out / "tries.json", json.dumps(found, indent=1) + "\n")
    write_text(out / "test.yaml", yaml.safe_dump(config, sort_keys=False, width=1000))
    typer.echo(table(found))


if __name__ == "__main__":
    app()
