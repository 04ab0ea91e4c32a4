"""The demo: ways to re-mix beside their controls, on experts merged behind routers of prompts, and as shipped."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ..models.names import EMBEDDED, MERGED
from ..storage.files import is_file, is_folder
from .options import Format, ModelOptions, Out, RunOptions, registry_with
from .runs import carried_out, show, tell_failed
from .terminal import clear_errors, print_json, say

if TYPE_CHECKING:
    from ..registry import Registry

SHOWN = (
    *("nearest", "nearest-random-neighbours", "nearest-shuffled-labels", "constant"),
    *("nearest-five-layers", "nearest-random-layers", "nearest-last-five"),
)
"""With the base, and the controls of chance; the paper's own takes longer than all of these together."""
SHOWN_BESIDE = ("nearest", "nearest-random-neighbours", "constant")
"""Of the model as it is shipped, beside the merged one."""
QUESTIONS, REFERENCES = 112, 240
"""Of the demo: so many references are learned from where all questions are asked."""
MODELS = {MERGED: "its experts behind routers made of prompts", EMBEDDED: "as it is shipped, with its own routers"}
FOLLOWING = (
    "Next: c3po audit QUESTIONS --model MODEL says whether it would pay on yours, c3po repair mends its routers; "
    "c3po demo --all runs every arm, the paper's among them; {} has the pages."
)


def demo(
    *,
    out: Out = Path("runs/demo"),
    limit: Annotated[
        int | None,
        typer.Option(min=1, help=f"Questions, spread over the kinds, and references in proportion; {QUESTIONS}."),
    ] = None,
    arm: Annotated[
        list[str] | None,
        typer.Option(
            "--arm",
            help="Only these arms (or optimizers, selectors, answerers, rules); repeatable. Its arm nearest is the "
            "preset of that name at a fixed rate, at the answer's tokens alone.",
        ),
    ] = None,
    every: Annotated[bool, typer.Option("--all", help="Every arm: some minutes.")] = False,
    questions: Annotated[
        str, typer.Option(help="Test questions: a file, a folder, a benchmark, or demo; NAME:SPLIT.")
    ] = "demo",
    split: Annotated[str | None, typer.Option(help="Which split of them.")] = None,
    references: Annotated[
        list[str] | None, typer.Option(help="Labeled questions, likewise, or a built set; repeatable.")
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Of all arms that draw.")] = 0,
    model: ModelOptions,
    format: Format = "cloze",
    run: RunOptions,
) -> None:
    """Ways to re-mix, and their controls, on real questions: the embedded model's experts merged behind routers made of
    prompts, and the model as it is; or a model, questions and arms of your own."""
    with clear_errors():
        from ..study.arms import DEMO
        from ..study.comparison import STUDY
        from ..study.comparison.added_controls import with_controls
        from ..study.data import references_of

        registry = registry_with(run.plugin)
        data = _data(questions, split, references, limit)
        raw = {**model.values, "seed": seed, "format": format, "datasets": [data]}
        both = model.model == EMBEDDED and questions == "demo" and not arm
        usual = DEMO["arms"] if every else SHOWN
        beside = usual if every or run.set else SHOWN_BESIDE  # what --set names has to be there
        shown = {MERGED: usual, EMBEDDED: beside} if both else {model.model: arm or usual}
        parsed = {
            name: STUDY.parse(_config(raw | {"model": name}, arms, registry), run.set or [])
            for name, arms in shown.items()
        }
        folders = {name: out / name if len(parsed) > 1 else out for name in parsed}
        for line in STUDY.foretold(with_controls(next(iter(parsed.values())), registry)):
            say(line, err=True)
        summaries = {}
        for name, config in parsed.items():
            summaries[name] = carried_out(STUDY, config, folders[name], registry, run)
            if not run.as_json:
                say(f"\n{', '.join(filter(None, (config.model, MODELS.get(config.model))))}:")
                show(STUDY.table(summaries[name]), folders[name], wide=run.wide)
            tell_failed(summaries[name])
        if run.as_json:
            plain = {name: summary.model_dump(mode="json") for name, summary in summaries.items()}
            print_json(plain if len(plain) > 1 else summaries[model.model])
        elif len(parsed) > 1:
            labels = len(references_of(parsed[MERGED].datasets[0]))
            _tell(summaries[MERGED], summaries[EMBEDDED], labels, out)


def _tell(merged: Any, shipped: Any, labels: int, out: Path) -> None:
    from ..study.arms import DEMO
    from ..study.two_models import three_sentences

    say("")
    for line in three_sentences(merged, shipped, DEMO["headline"], labels, FOLLOWING.format(out)):
        say(line)


def _data(questions: str, split: str | None, references: list[str] | None, limit: int | None) -> dict[str, Any]:
    """The demo's data set, or another's."""
    from ..study.arms import DEMO

    data = dict(DEMO["datasets"][0])
    if questions != "demo":
        data |= {"name": _called(questions), "questions": questions, "split": None, "limit": None}
    elif limit is not None and limit < QUESTIONS:
        data["references_limit"] = max(REFERENCES // 4, limit * REFERENCES // QUESTIONS)
    if references:
        data |= {"references": references, "references_split": None, "references_limit": None}
    return data | {key: value for key, value in (("split", split), ("limit", limit)) if value is not None}


def _config(raw: dict[str, Any], arms: Iterable[str], registry: Registry) -> dict[str, Any]:
    """With the base and arms by name, and what they are compared with."""
    from ..study.arms import DEMO, arms_by_name

    names = list(dict.fromkeys(["base", *arms]))
    return {
        **DEMO,
        **raw,
        "arms": {name: made.model_dump(exclude_unset=True) for name, made in arms_by_name(names, registry).items()},
        "headline": DEMO["headline"] if DEMO["headline"] in names else None,
        "compare": [pair for pair in DEMO["compare"] if {*pair} <= {*names}],
    }


def _called(source: str) -> str:
    """What a source is called in results: a benchmark's or a task's name, or a file's without its ending."""
    from ..tasks.sources import brought, own_set

    if own := own_set(source):
        return own
    _, source = brought(source)
    there = is_file(Path(source)) or is_folder(Path(source))
    path = Path(source if there else source.partition(":")[0])
    return (path.stem if path.suffix in (".json", ".jsonl", ".yaml", ".yml") else path.name) or source
