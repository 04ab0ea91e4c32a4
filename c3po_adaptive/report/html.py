"""One self-contained ``report.html`` from a run folder: nothing is fetched when it is opened."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from ..analysis.asked_with import benchmark_of
from ..analysis.expert_use import expert_use
from ..analysis.gain_by_kind import gain_by_kind
from ..analysis.kept import kept
from ..analysis.reliability import reliability
from ..analysis.statistics import Record, first_draw
from ..analysis.verdict import claimed
from ..storage.files import write_text
from ..storage.run_folder import made_by
from ..types import Question
from . import plots, published
from .page import draw
from .questions import Key, payload
from .sentences import find, role, sentences, shown_dataset

REPORT = "report.html"


def render(
    folder: Path | str,
    questions: Mapping[Key, Question] | None = None,
    references: Mapping[Key, Question] | None = None,
) -> Path:
    """Draw the report of a run folder from its records and summary.

    Args:
        folder: holds ``records.jsonl`` and ``summary.json``; ``report.html`` is written there.
        questions: texts of the test questions by data set and id, from local files; without them ids are shown.
        references: texts of the neighbours, likewise.

    Raises:
        DataError: records or summary are missing, or a text belongs to another question than its record.
    """
    folder = Path(folder)
    summary, records = kept(folder)
    arms = list(dict.fromkeys(row["arm"] for row in summary["rows"]))
    rows = _rows(summary, shown_dataset(summary))
    arm = _shown_arm(rows)
    kinds = _by_kind(summary, records, arm)
    single = first_draw(records)  # what a page shows answer by answer
    uses = _uses(single)
    html = draw(
        __package__,
        "template.html.j2",
        made=made_by(folder),
        model=summary["config"].get("model"),
        summary=summary,
        headline=shown_dataset(summary),
        shown_arm=arm,
        sentences=sentences(summary),
        tables=_tables(summary),
        roles=list(dict.fromkeys(row["role"] for row in rows)),
        controlled=any(row["controls"] for row in summary["rows"]),
        kinds=_beside(kinds),
        by_kind=plots.gains_by_kind(kinds) if kinds else "",
        figures=_figures(summary, single),
        settings=_settings(summary),
        uses=bool(uses),
        data=payload(single, arms, summary["baseline"], questions or {}, references or {})
        | {"uses": uses, "shown": arm},
    )
    write_text(folder / REPORT, html)
    return folder / REPORT


def _settings(summary: Mapping[str, Any]) -> dict[str, Any]:
    settings = {row["arm"]: row["setting"] for row in _rows(summary, shown_dataset(summary))}
    return {"config": summary["config"], "settings": settings} | {k: summary[k] for k in ("versions", "hashes")}


def _rows(summary: Mapping[str, Any], dataset: str) -> list[dict[str, Any]]:
    return [{**row, "role": role(row, summary)} for row in summary["rows"] if row["dataset"] == dataset]


def _shown_arm(rows: Sequence[Mapping[str, Any]]) -> str | None:
    """The arm that the run is about, or its first method."""
    named = [row["arm"] for row in rows if row.get("headline")]
    return next(iter([*named, *(row["arm"] for row in rows if row["role"] == "method")]), None)


def _datasets(summary: Mapping[str, Any]) -> list[str]:
    """The headline first."""
    return list(dict.fromkeys([shown_dataset(summary), *(row["dataset"] for row in summary["rows"])]))


def _tables(summary: Mapping[str, Any]) -> list[dict[str, Any]]:
    """One table per data set: each row with its comparison with the base, and those with its controls."""
    tables = []
    for dataset in _datasets(summary):
        rows = _rows(summary, dataset)
        for row in rows:
            row["beside_baseline"] = _told(find(summary, dataset, row["arm"], summary["baseline"]))
            beside = [_told(find(summary, dataset, row["arm"], control)) for control in row["controls"]]
            row["beside_controls"] = [c for c in beside if c]
        gains = {row["arm"]: row["beside_baseline"] for row in rows}
        tables.append({"dataset": dataset, "rows": rows, "gains": gains})
    return tables


def _told(c: Mapping[str, Any] | None) -> dict[str, Any] | None:
    return {**c, "claimed": claimed(c)} if c else None


def _by_kind(summary: Mapping[str, Any], records: Sequence[Record], arm: str | None) -> list[dict[str, Any]]:
    """The shown arm's gains, and those of a control beside it, if one was run: rather one that it is compared with."""
    if arm is None:
        return []
    roles = {row["arm"]: role(row, summary) for row in summary["rows"]}
    beside = [b for a, b in summary.get("compare", ()) if a == arm] + [summary["control"]]
    control = [name for name in beside if roles.get(name) == "control" and name != arm][:1]
    found = [gain_by_kind(records, name, summary["baseline"], seed=summary.get("seed", 0)) for name in [arm, *control]]
    rows = [{**row, "role": roles[row["arm"]]} for of_arm in found for row in of_arm]
    return [row for together in _beside(rows) for row in together]


def _beside(kinds: Sequence[dict[str, Any]]) -> list[list[dict[str, Any]]]:
    """The arms' rows of one kind together."""
    found: dict[tuple[str, str | None], list[dict[str, Any]]] = {}
    for row in kinds:
        found.setdefault((row["dataset"], row["kind"]), []).append(row)
    return list(found.values())


def _figures(summary: Mapping[str, Any], records: Sequence[Record]) -> list[dict[str, str]]:
    rows = _rows(summary, shown_dataset(summary))
    chosen: dict[str, list[list[int]]] = {}
    for record in records:
        chosen.setdefault(record["arm"], []).append(record["layers"])
    figures = [
        ("Gain over base", "With 95 % intervals. One that touches zero allows no claim.", plots.gains(rows)),
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
        (
            "Layers chosen",
            "Share of questions for which a layer was re-mixed.",
            plots.layers(chosen, {row["arm"]: row["role"] for row in rows}),
        ),
    ]
    figures += _of_headline(summary, records)
    for dataset in _datasets(summary)[1:]:
        figures.append((f"Gain over base: {dataset}", "With 95 % intervals.", plots.gains(_rows(summary, dataset))))
    figures += _beside_published(summary)
    return [{"title": title, "caption": caption, "svg": svg} for title, caption, svg in figures if svg]


def _beside_published(summary: Mapping[str, Any]) -> Iterator[tuple[str, str, str]]:
    """Of each data set that the paper reports, if the configuration names the model to stand beside."""
    if not (model := summary["config"].get("published")):
        return
    label = f"published, {published.called(model)}"
    for dataset in _datasets(summary):
        rows = _rows(summary, dataset)
        known = published.accuracy(model, benchmark_of(summary["config"], dataset))
        there = {r["arm"]: known[r["optimizer"]] for r in rows if _as_published(r) and r["optimizer"] in known}
        if there:
            caption = (
                f"Dashed: {label}, of the arm's method ({published.source()}). Prompts, references and questions are "
                "others: to be looked at beside this run, and no results of it."
            )
            yield f"Beside published figures: {dataset}", caption, plots.beside_published(rows, there, label)


def _as_published(row: Mapping[str, Any]) -> bool:
    """Whether an arm stands for a method of the paper: no control, and no optimizer without steps but the base."""
    return bool(row["role"] != "control" and (row["optimizer"] == "none") == (row["role"] == "base"))


def _reliability(
    summary: Mapping[str, Any], records: Sequence[Record], rows: Sequence[Mapping[str, Any]]
) -> tuple[str, str, str]:
    """Confidence against accuracy, the shown arm beside the base."""
    errors = {row["arm"]: row["calibration_error"] for row in rows}
    names = [name for name in dict.fromkeys((summary["baseline"], _shown_arm(rows))) if name is not None]
    bins = {name: reliability([r for r in records if r["arm"] == name]) for name in names}
    said = [f"{name} {errors[name]:.1f}" for name in names]
    caption = (
        "Accuracy of answers of about one confidence (the probability of the chosen option), with 95 % intervals; on "
        f"the diagonal they would agree. Expected calibration error, in points: {', '.join(said)}."
    )
    roles = {row["arm"]: row["role"] for row in rows}
    return "Reliability", caption, plots.reliability({name: (roles[name], found) for name, found in bins.items()})


def _of_headline(summary: Mapping[str, Any], records: Sequence[Record]) -> list[tuple[str, str, str]]:
    """What a study of selection asks: does it pay to take more layers, or fewer questions; which layers, where."""
    rows = _rows(summary, shown_dataset(summary))
    risk = [row for row in summary["risk"] if row["dataset"] == shown_dataset(summary)]
    predicted = [row for row in summary.get("predicted", []) if row["dataset"] == shown_dataset(summary)]
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
    arm = next((row["arm"] for row in rows if row.get("headline")), None)
    names = {record["dataset"] for record in records}
    kinds: dict[str, list[list[int]]] = {}
    for record in records:
        if record["arm"] == arm:
            name = record["subject"] if len(names) == 1 else f"{record['dataset']} {record['subject']}"
            kinds.setdefault(name.strip() or record["dataset"], []).append(record["layers"])
    layers = sorted({n for record in records for n in record["layers"]})
    if kinds and layers:
        drawn = plots.by_kind(kinds, layers)
        found.append((f"Layers that {arm} chose", "By kind of question; the strongest color: always.", drawn))
    return found


def _in_ranks(predicted: Sequence[Mapping[str, Any]]) -> str:
    """How far signals order questions by what re-mixing does to them."""
    over = "{arm} {rank_correlation:.2f} [{rank_correlation_low:.2f}, {rank_correlation_high:.2f}]"
    among = ", {acted:.2f} [{acted_low:.2f}, {acted_high:.2f}] among {n_acted} that it changed"
    said = [(over + among * (row.get("acted") is not None)).format(**row) for row in predicted]
    return (
        "Whether the signal says what re-mixing does to a question, with 95 % intervals; a signal that says nothing is "
        f"flat. Rank correlation over questions: {'; '.join(said)}."
    )


def _uses(records: Sequence[Record]) -> dict[str, Any]:
    """Counts of layers × experts by arm, as the page's script takes them."""
    return {
        arm: {
            "n": use.n,
            "layers": use.layers,
            "changed": use.changed.tolist(),
            "raised": None if use.raised is None else use.raised.tolist(),
            "lowered": None if use.lowered is None else use.lowered.tolist(),
        }
        for arm, use in expert_use(records).items()
    }
