"""Records that tests make up, and summaries of them as they stand in a file."""

import json
from pathlib import Path

from c3po_adaptive.analysis import summarize as analysis
from c3po_adaptive.records.answer import AnswerRecord
from c3po_adaptive.records.summary import Row, RowCost, Summary
from c3po_adaptive.report import sentences as report

UNSAID = ("once", "labels", "parameters", "base_choice", "base_correct", "strength", "neighbours_used", "moved")
USUAL = {"dataset": "demo", "split": "test", "subject": "", "seed": 0, "answer": 0, "choice": 0, "scores": [0.0, 0.0]}
USUAL |= {"cost": {"total": 1.0}, "needs_label": False, "seconds": 0.0, **dict.fromkeys(UNSAID)}
USUAL |= {name: [] for name in ("base_scores", "layers", "neighbours")}
USUAL |= {name: {} for name in ("setting", "experts", "raised", "layer_scores", "pathway", "flops")}


KNOWN: dict[str, AnswerRecord] = {}
"""What many answers share is held against its types once."""


def answered(**given):
    """An answer; what is not said is as usual, and ``correct`` settles the choice."""
    record = USUAL | given
    if "correct" in given and "choice" not in given:
        right = record["answer"]
        record["choice"] = right if given["correct"] else (right + 1) % len(record["scores"])
    if record["base_choice"] is not None and not record["base_scores"]:
        record["base_scores"] = record["scores"]
    own = {"correct": record["choice"] == record["answer"], "choice": record.pop("choice"), "id": record.pop("id")}
    alike = repr(record)
    if len(KNOWN) > 5000:
        KNOWN.clear()
    if alike not in KNOWN or not 0 <= own["choice"] < len(record["scores"]):
        KNOWN[alike] = AnswerRecord.model_validate(record | own)
    return KNOWN[alike].model_copy(update=own)


def made(records):
    """Each as a record."""
    return [record if isinstance(record, AnswerRecord) else answered(**record) for record in records]


def summarize(records, **how):
    """The summary of made-up records, as it stands in a file."""
    return plain(analysis.summarize(made(records), **how))


def sentences(summary):
    """Of such a summary."""
    return report.sentences(Summary.model_validate(summary))


def rows_in(folder):
    """A run's records, as they stand there."""
    return [json.loads(line) for line in (Path(folder) / "records.jsonl").read_text().splitlines()]


def plain(found):
    """As it stands in a file."""
    return json.loads(found.model_dump_json())


def row_of(arm, accuracy, **values):
    """Of a summary; what is not said is nothing."""
    cost = dict.fromkeys(RowCost.model_fields, 1.0)
    numbers = dict.fromkeys((name for name, field in Row.model_fields.items() if field.annotation in (int, float)), 0)
    maybe = dict.fromkeys(("detectable", "moved", "neighbours_used", "labels", "parameters"))
    texts = {"dataset": "demo", "split": "test", "optimizer": "ngd", "selector": "fixed"}
    texts |= {"references": "", "format": ""}
    known = {"arm": arm, "accuracy": accuracy, "role": "method", "needs_label": False, "setting": {}, "cost": cost}
    return Row.model_validate(numbers | maybe | texts | {"n": 100, "layers": 3} | known | values)
