"""One self-contained ``report.html`` from a run folder: nothing is fetched when it is opened."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any

from ..analysis.kept import kept
from ..analysis.statistics import Record, probabilities
from ..errors import DataError
from ..storage.files import write_text
from ..types import Question
from . import plots
from .sentences import claimed, find, role, sentences, shown_dataset

REPORT = "report.html"
DIGITS = 4
ANSWERS = 8000  # on the page, some 10 MB; all of them are in the records

Key = tuple[str, str]
"""Data set and id of a question."""


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
    html = _template().render(
        summary=summary,
        headline=shown_dataset(summary),
        sentences=sentences(summary),
        tables=_tables(summary),
        controlled=any(c["b"] == summary["control"] for c in summary["comparisons"]),
        figures=_figures(summary, records),
        made=_made(summary),
        data=_payload(summary, records, questions or {}, references or {}),
    )
    write_text(folder / REPORT, html)
    return folder / REPORT


def _template() -> Any:
    from jinja2 import Environment, StrictUndefined

    # A missing variable must not leave a hole in a report unseen.
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    environment.policies["json.dumps_kwargs"] = {"separators": (",", ":"), "ensure_ascii": False}
    environment.filters["signed"] = lambda x, digits=1: f"{x:+.{digits}f}".replace("-", "−")
    environment.filters["pretty"] = lambda value: json.dumps(value, indent=1, ensure_ascii=False)
    environment.filters["p"] = lambda p: "< 0.001" if p < 0.001 else f"{p:.3f}"
    return environment.from_string(files(__package__).joinpath("template.html.j2").read_text(encoding="utf-8"))


def _made(summary: Mapping[str, Any]) -> dict[str, Any]:
    settings = {row["arm"]: row["setting"] for row in _rows(summary, shown_dataset(summary))}
    return {"config": summary["config"], "settings": settings} | {k: summary[k] for k in ("versions", "hashes")}


def _rows(summary: Mapping[str, Any], dataset: str) -> list[dict[str, Any]]:
    return [{**row, "role": role(row, summary)} for row in summary["rows"] if row["dataset"] == dataset]


def _datasets(summary: Mapping[str, Any]) -> list[str]:
    """The headline first."""
    return list(dict.fromkeys([shown_dataset(summary), *(row["dataset"] for row in summary["rows"])]))


def _tables(summary: Mapping[str, Any]) -> list[dict[str, Any]]:
    """One table per data set: each row with its comparisons and its calibration."""
    calibration = {(c["dataset"], c["arm"]): c for c in summary["calibration"]}
    tables = []
    for dataset in _datasets(summary):
        rows = _rows(summary, dataset)
        for row in rows:
            row["calibration"] = calibration[dataset, row["arm"]]
            for name in ("baseline", "control"):
                c = find(summary, dataset, row["arm"], summary[name])
                row[f"beside_{name}"] = c and {**c, "claimed": claimed(c)}
        tables.append({"dataset": dataset, "rows": rows})
    return tables


def _figures(summary: Mapping[str, Any], records: Sequence[Record]) -> list[dict[str, str]]:
    rows = _rows(summary, shown_dataset(summary))
    chosen: dict[str, list[list[int]]] = {}
    for record in records:
        chosen.setdefault(record["arm"], []).append(record["layers"])
    figures = [
        ("Gain over base", "An interval that touches zero allows no claim.", plots.gains(rows)),
        ("Flipped answers", "A method that changes little can gain little, and harm little.", plots.flips(rows)),
        ("Accuracy and cost", "FLOPs of a whole answer, divided by those of one base forward.", plots.costs(rows)),
        (
            "Layers chosen",
            "Share of questions for which a layer was re-mixed.",
            plots.layers(chosen, {row["arm"]: row["role"] for row in rows}),
        ),
    ]
    figures += _of_headline(summary, records)
    for dataset in _datasets(summary)[1:]:
        figures.append((f"Gain over base: {dataset}", "", plots.gains(_rows(summary, dataset))))
    return [{"title": title, "caption": caption, "svg": svg} for title, caption, svg in figures if svg]


def _of_headline(summary: Mapping[str, Any], records: Sequence[Record]) -> list[tuple[str, str, str]]:
    """What a study of selection asks: does it pay to take more layers, or fewer questions; which layers, where."""
    rows = _rows(summary, shown_dataset(summary))
    risk = [row for row in summary["risk"] if row["dataset"] == shown_dataset(summary)]
    found = [
        ("Number of layers", "One line for each selector whose other settings are the same.", plots.budgets(rows)),
        ("Some questions alone", "Those with the strongest signal first.", plots.coverage(risk)),
    ]
    arm = next((row["arm"] for row in rows if row.get("headline")), None)
    kinds: dict[str, list[list[int]]] = {}
    for record in records:
        if record["arm"] == arm:
            kinds.setdefault(f"{record['dataset']} {record['subject']}".strip(), []).append(record["layers"])
    layers = sorted({n for record in records for n in record["layers"]})
    if kinds and layers:
        found.append((f"Layers that {arm} chose", "By kind of question.", plots.by_kind(kinds, layers)))
    return found


def _payload(
    summary: Mapping[str, Any],
    records: Sequence[Record],
    questions: Mapping[Key, Question],
    references: Mapping[Key, Question],
) -> dict[str, Any]:
    """What the page's script draws questions from; what records share is stored once and named by its place.

    ``weights`` are integers, ``DIGITS`` after the point: they are most of the bytes.
    """
    rows = {row["arm"]: row for name in _datasets(summary) for row in _rows(summary, name)}
    arms = [*rows]
    places: dict[tuple[str, str], int] = {}
    asked: list[dict[str, Any]] = []
    own = _Once()
    answers = []
    shown = _shown(records)
    base = {(r["dataset"], r["id"]): r for r in records if r["arm"] == summary["baseline"]}
    for record in records:
        key = (record["dataset"], record["id"])
        if key not in shown:
            continue
        if key not in places:
            places[key] = len(asked)
            asked.append(_asked(record, questions.get(key)))
        plain = record if record["base_choice"] is not None else base[key]
        answers.append(_answer(record, plain, places[key], arms.index(record["arm"]), own))
    used = {
        (record["dataset"], n["id"])
        for record in records
        for n in record["neighbours"]
        if (record["dataset"], record["id"]) in shown
    }
    texts: dict[str, dict[str, list[str]]] = {}
    for dataset, id_ in sorted(used & references.keys()):
        texts.setdefault(dataset, {})[id_] = _reference(references[dataset, id_])
    return {
        "scale": 10**DIGITS,
        "arms": arms,
        "roles": [row["role"] for row in rows.values()],
        "datasets": sorted({dataset for dataset, _ in places}),
        "questions": asked,
        "answers": answers,
        "own": own.values,
        "references": texts,
    }


def _shown(records: Sequence[Record]) -> set[Key]:
    """The first questions, as many of each data set."""
    ids: dict[str, dict[str, None]] = {}
    for record in records:
        ids.setdefault(record["dataset"], {})[record["id"]] = None
    arms = {record["arm"] for record in records}
    each = max(1, ANSWERS // max(1, len(arms) * len(ids)))
    return {(name, id_) for name, all_of_it in ids.items() for id_ in list(all_of_it)[:each]}


class _Once:
    """Values kept once; most arms start from the same pathway."""

    def __init__(self) -> None:
        self.values: list[Any] = []
        self._places: dict[str, int] = {}

    def place(self, value: Any) -> int:
        place = self._places.setdefault(json.dumps(value), len(self.values))
        if place == len(self.values):
            self.values.append(value)
        return place


def _asked(record: Record, question: Question | None) -> dict[str, Any]:
    asked = {"id": record["id"], "set": record["dataset"], "subject": record["subject"], "gold": record["answer"]}
    if question is None:
        return asked
    # A file of another version would put wrong words beside right numbers.
    if len(question.choices) != len(record["scores"]) or question.answer not in (None, record["answer"]):
        raise DataError(
            f"Expected {record['id']!r} with {len(record['scores'])} choices and answer {record['answer']}, got "
            f"{len(question.choices)} and {question.answer}; give the question file that the run was made with."
        )
    return {**asked, "text": question.question, "choices": list(question.choices)}


def _reference(question: Question) -> list[str]:
    answer = "" if question.answer is None else question.choices[question.answer]
    return [question.question, answer]


def _answer(record: Record, plain: Record, place: int, arm: int, own: _Once) -> dict[str, Any]:
    """As the page's script takes it; ``plain`` says what the model answered by itself."""
    return {
        "q": place,
        "arm": arm,
        "seed": record["seed"],
        "choice": record["choice"],
        "was": plain["choice"] if plain is not record else record["base_choice"],
        "right": record["correct"],
        "wasRight": plain["correct"] if plain is not record else record["base_correct"],
        "after": _rounded(probabilities(record["scores"])),
        "before": _rounded(probabilities(plain["scores"] if plain is not record else record["base_scores"])),
        "layers": record["layers"],
        "layerScores": {k: v for k, v in record["layer_scores"].items() if int(k) in record["layers"]},
        # Where a pathway was kept, it shows which experts changed.
        "experts": {k: v for k, v in record["experts"].items() if k not in record["pathway"]},
        "pathway": {
            layer: [own.place(_weights(weights["own"])), _weights(weights["new"])]
            for layer, weights in record["pathway"].items()
        },
        "neighbours": [[n["id"], *_rounded([n["similarity"], n["weight"]])] for n in record["neighbours"]],
        "cost": _rounded([record["cost"]["total"]])[0],
        "seconds": _rounded([record["seconds"]])[0],
    }


def _rounded(values: Any) -> list[float]:
    return [round(float(v), DIGITS) for v in values]


def _weights(sparse: Mapping[str, float]) -> list[int]:
    """``[expert, weight, expert, weight, …]``."""
    return [number for expert, w in sparse.items() for number in (int(expert), round(w * 10**DIGITS))]
