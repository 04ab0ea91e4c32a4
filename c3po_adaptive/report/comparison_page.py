"""One self-contained ``report.html`` from a run folder: nothing is fetched when it is opened."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from ..analysis.calibration import reliability
from ..analysis.comparison_folder import results_in
from ..analysis.dataset_in_words import DatasetsInWords
from ..analysis.expert_use import expert_use
from ..analysis.gain_by_kind import KindRow, gain_by_kind
from ..analysis.statistics import first_draw
from ..records.answer import AnswerRecord
from ..records.summary import Predicted, Row, Summary
from ..storage.files import write_text
from ..storage.run_folder import made_by
from ..types import Question
from . import plots, published_figures
from .drawing import COLORS
from .page import draw
from .question_payload import Key, payload
from .sentences import sentences

REPORT = "report.html"
GAINS = "Gain over base"
"""The figure that a page begins with, where there is an arm beside the base."""
SCORES = "Scores of layers"
"""The figure that is folded."""


def render(
    folder: Path | str,
    questions: Mapping[Key, Question] | None = None,
    references: Mapping[Key, Question] | None = None,
) -> Path:
    """Draw the report of a run folder from its records and summary.

    Args:
        questions: texts of the test questions by data set and id, from local files; without them ids are shown.
        references: texts of the neighbours, by data set and id.

    Raises:
        DataError: records or summary are missing, or a text belongs to another question than its record.
    """
    folder = Path(folder)
    summary, records = results_in(folder)
    arms = list(dict.fromkeys(row.arm for row in summary.rows))
    rows = summary.on(summary.shown_dataset)
    arm = _shown_arm(rows)
    kinds = _by_kind(summary, records, arm)
    first, others = _opening(sentences(summary, arm), arm or summary.baseline, rows)
    single = first_draw(records)  # what a page shows answer by answer
    figures = _figures(summary, single)
    uses = expert_use(single)
    html = draw(
        __package__,
        "comparison.html.j2",
        made=made_by(folder),
        model=summary.config.get("model"),
        summary=summary,
        shown_arm=arm,
        sentences=first,
        others=others,
        gains=[figure for figure in figures if figure["title"] == GAINS],
        tables=[(dataset, summary.on(dataset)) for dataset in summary.datasets],
        twice=DatasetsInWords(summary.config).scored_twice(),
        roles=list(dict.fromkeys(row.role for row in rows)),
        controlled=any(row.controls for row in summary.rows),
        kinds=kinds,
        by_kind=plots.gains_by_kind([row for each in kinds for row in each], {row.arm: row.role for row in rows}),
        figures=[figure for figure in figures if figure["title"] not in (GAINS, SCORES)],
        folded=[figure for figure in figures if figure["title"] == SCORES],
        settings=_settings(summary),
        rules=summary.hashes.get("rules"),
        uses=bool(uses),
        data=payload(single, arms, summary.baseline, questions or {}, references or {}) | {"uses": uses, "shown": arm},
    )
    write_text(folder / REPORT, html)
    return folder / REPORT


def _opening(said: Sequence[str], arm: str, rows: Sequence[Row]) -> tuple[list[str], list[str]]:
    """What a page begins with: what is lacking, and the sentence on the arm that it is about; and what else is said."""
    of_arms = tuple(f"{row.arm}: " for row in rows)
    lacking = said[: next(i for i, line in enumerate(said) if line.startswith(of_arms))]
    first = [*lacking, next(line for line in said if line.startswith(f"{arm}: "))]
    return first, [line for line in said if line not in first]


def _settings(summary: Summary) -> dict[str, object]:
    plain = summary.model_dump(mode="json", include={"config", "versions", "hashes"})
    return plain | {"settings": {row.arm: row.setting.model_dump() for row in summary.on(summary.shown_dataset)}}


def _shown_arm(rows: Sequence[Row]) -> str | None:
    """The arm that the run is about, or its first method."""
    named = [row.arm for row in rows if row.headline]
    return next(iter([*named, *(row.arm for row in rows if row.role == "method")]), None)


def _by_kind(summary: Summary, records: Sequence[AnswerRecord], arm: str | None) -> list[list[KindRow]]:
    """The shown arm's gain on each kind, and that of a control beside it, if one was run: rather one that it is
    compared with."""
    if arm is None:
        return []
    rows = {row.arm: row for row in summary.rows}
    beside = [b for a, b in summary.compare if a == arm] + [*rows[arm].controls, *rows]
    control = [name for name in beside if rows[name].role == "control" and name != arm][:1]
    found: dict[tuple[str, str | None], list[KindRow]] = {}
    for name in [arm, *control]:
        for row in gain_by_kind(records, name, summary.baseline, seed=summary.seed):
            found.setdefault((row.dataset, row.kind), []).append(row)
    return list(found.values())


def _figures(summary: Summary, records: Sequence[AnswerRecord]) -> list[dict[str, str]]:
    rows = summary.on(summary.shown_dataset)
    roles = {row.arm: row.role for row in rows}
    chosen: dict[str, list[Sequence[int]]] = {}
    scores: dict[str, dict[int, list[float]]] = {}
    for record in records:
        chosen.setdefault(record.arm, []).append(record.layers)
        for layer, score in record.layer_scores.items():
            scores.setdefault(record.arm, {}).setdefault(layer, []).append(score)
    figures = [
        (GAINS, "With 95 % intervals. One that touches zero allows no claim.", plots.gains(rows)),
        ("Flipped answers", "A method that changes little can gain little, and harm little.", plots.flips(rows)),
        (
            "Accuracy and cost",
            "FLOPs of a whole answer, divided by those of one base forward. Vertical lines: the gain's 95 % interval. "
            "Dashed: the best for its cost, upper bounds left out.",
            plots.costs(rows),
        ),
        (
            "Cost by the number of questions",
            "What was spent once (references run, gradients kept, parameters trained) is shared by all that are asked. "
            "Dashed: controls.",
            plots.costs_over(rows),
        ),
        _reliability(summary, records, rows),
        ("Layers chosen", "Share of questions for which a layer was re-mixed.", plots.layers(chosen, roles)),
        (
            SCORES,
            "What the selector of each arm gave the layers, chosen or not: means over questions, lines are 95 % "
            "intervals over them. Each selector has a unit of its own.",
            plots.scored_layers(scores, lambda arm, _: COLORS[roles[arm]]),
        ),
    ]
    figures += _of_headline(summary, records)
    for dataset in summary.datasets[1:]:
        figures.append((f"Gain over base: {dataset}", "With 95 % intervals.", plots.gains(summary.on(dataset))))
    figures += _with_published(summary)
    return [{"title": title, "caption": caption, "svg": svg} for title, caption, svg in figures if svg]


def _with_published(summary: Summary) -> Iterator[tuple[str, str, str]]:
    """Of each data set that the paper reports, if the configuration names the model to stand beside."""
    model = summary.config.get("published")
    if not isinstance(model, str):
        return
    label, asked = f"published, {published_figures.called(model)}", DatasetsInWords(summary.config)
    for dataset in summary.datasets:
        rows = summary.on(dataset)
        known = published_figures.accuracy(model, asked.benchmark(dataset))
        there = {r.arm: known[r.optimizer] for r in rows if _as_published(r) and r.optimizer in known}
        if there:
            caption = (
                f"Dashed: {label}, of the arm's method ({published_figures.source()}). Prompts, references and "
                "questions are others: to be looked at beside this run, and no results of it."
            )
            yield f"Beside published figures: {dataset}", caption, plots.with_published(rows, there, label)


def _as_published(row: Row) -> bool:
    """Whether an arm stands for a method of the paper: no control, and no optimizer without steps but the base."""
    return bool(row.role != "control" and (row.optimizer == "none") == (row.role == "base"))


def _reliability(summary: Summary, records: Sequence[AnswerRecord], rows: Sequence[Row]) -> tuple[str, str, str]:
    """Confidence against accuracy, the shown arm beside the base."""
    errors = {row.arm: row.calibration_error for row in rows}
    names = [name for name in dict.fromkeys((summary.baseline, _shown_arm(rows))) if name is not None]
    bins = {name: reliability([r for r in records if r.arm == name]) for name in names}
    said = [f"{name} {errors[name]:.1f}" for name in names]
    caption = (
        "Accuracy of answers of about one confidence (the probability of the likeliest option), with 95 % intervals; "
        f"on the diagonal they would agree. Expected calibration error, in points: {', '.join(said)}."
    )
    roles = {row.arm: row.role for row in rows}
    return "Reliability", caption, plots.reliability({name: (roles[name], found) for name, found in bins.items()})


def _of_headline(summary: Summary, records: Sequence[AnswerRecord]) -> list[tuple[str, str, str]]:
    """What a study of selection asks: does it pay to take more layers, or fewer questions; which layers, where."""
    rows = summary.on(summary.shown_dataset)
    risk = [row for row in summary.risk if row.dataset == summary.shown_dataset]
    predicted = [row for row in summary.predicted if row.dataset == summary.shown_dataset]
    found = [
        (
            "Number of layers",
            "One line for each selector whose other settings are the same, with 95 % intervals.",
            plots.budgets(rows),
        ),
        (
            "Some questions alone",
            "Those with the strongest signal first; vertical lines are 95 % intervals of the gain.",
            plots.coverage(risk),
        ),
        ("Predicted and realised", _in_ranks(predicted), plots.predicted(predicted)),
    ]
    arm = next((row.arm for row in rows if row.headline), None)
    names = {record.dataset for record in records}
    kinds: dict[str, list[Sequence[int]]] = {}
    for record in records:
        if record.arm == arm:
            name = record.subject if len(names) == 1 else f"{record.dataset} {record.subject}"
            kinds.setdefault(name.strip() or record.dataset, []).append(record.layers)
    layers = sorted({n for record in records for n in record.layers})
    if kinds and layers:
        drawn = plots.by_kind(kinds, layers)
        found.append((f"Layers that {arm} chose", "By kind of question; the strongest color: always.", drawn))
    return found


def _in_ranks(predicted: Sequence[Predicted]) -> str:
    """How far signals order questions by what re-mixing does to them."""
    over = "{arm} {rank_correlation:.2f} [{rank_correlation_low:.2f}, {rank_correlation_high:.2f}]"
    among = ", {acted:.2f} [{acted_low:.2f}, {acted_high:.2f}] among {n_acted} that it changed"
    said = [(over + among * (row.acted is not None)).format(**dict(row)) for row in predicted]
    return (
        "Whether the signal says what re-mixing does to a question, with 95 % intervals; a signal that says nothing is "
        f"flat. Rank correlation over questions: {'; '.join(said)}."
    )
