"""An audit from questions to a summary, in a folder that it resumes in, or without any."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from torch import nn
from transformers import PreTrainedTokenizerBase

from c3po_adaptive import DataError, Format, Question, RoutedModel, SettingError, borrowed
from c3po_adaptive.report import finished_summary
from c3po_adaptive.study import (
    Progress,
    Records,
    by_size,
    claimed,
    digest,
    made_by,
    read_records,
    settings_identity,
    silent,
    versions,
    write_text,
)
from c3po_adaptive.tasks import again_in_words, distinct, first_of, format_key

from .expected_gain import EXPECTED, LeftOut
from .expected_gain import FEWEST as FEWEST_LEFT
from .interventions import interventions
from .measure import HEADROOM, Measurement, kind_of
from .page import page
from .plan import FEW, FEWEST, USUAL_RATES, make_plan
from .records import ARM, AuditRow, AuditSummary
from .summary import summarize

BATCH = 8
"""Questions that are run together; what an interruption loses."""
_AGAIN = "run the audit again"


def audit(
    model: RoutedModel | nn.Module,
    questions: Sequence[Question],
    out: Path | str | None = None,
    *,
    format: str | Format = "cloze",
    deep: bool = False,
    rates: Sequence[float] = tuple(USUAL_RATES),
    seed: int = 0,
    dataset: str = "questions",
    progress: Progress | None = None,
    tell: Callable[[str], None] = lambda line: None,
    tokenizer: PreTrainedTokenizerBase | None = None,
) -> AuditSummary:
    """What routing is worth on a model and questions, before anything is re-mixed.

    Args:
        model: from ``load_moe_model``, or of transformers, which is left as it was.
        questions: labeled ones; their ``subject``, or else their ``task``, is their kind.
        out: a folder for ``records.jsonl`` (a row a question), ``summary.json`` and ``report.html``, in which an
            interrupted audit resumes; None: none is written. What questions teach each other is kept in the cache.
        format: how questions are put.
        deep: everything in each layer, every expert banned, and the oracle on all questions, whatever it costs; else at
            most a dozen base forwards a question are spent, beside the expected gain of forty questions or more.
        rates: learning rates at which the label's own descent is tried: those that methods use by default.
        seed: of what is drawn: permutations, and resampled questions.
        dataset: what the questions are called.
        progress: shows how many are done; None: nothing does.
        tell: takes what the model or the budget leaves out, a line at a time, before anything is measured.
        tokenizer: of a model of transformers.

    Raises:
        DataError: too few questions, one without an answer, or a folder that holds another run.
        SettingError: a learning rate that is none, or no tokenizer.
    """
    check(questions, rates, seed)
    config = settings(questions, format, deep=deep, rates=rates, seed=seed, dataset=dataset)
    once, _ = distinct(questions)
    with borrowed(model, tokenizer) as routed:
        hashes = {"model": routed.fingerprint, "questions": str(config["questions"])}

        def carried_out(known: list[AuditRow], keep: Callable[[AuditRow], None]) -> AuditSummary:
            measurement = _prepared(routed, once, format, rates, seed, dataset, deep=deep)
            for name, why in measurement.plan.left_out.items():
                tell(f"left out: {name}: {why}")
            rows = _measured(measurement, once, known, keep, progress or silent)
            foreseen = left_out_of(questions, dataset, deep=deep)
            plan = replace(measurement.plan, left_out=foreseen | dict(measurement.plan.left_out))
            return summarize(rows, routed, plan, hashes, dataset=dataset, seed=seed)

        if out is None:
            return carried_out([], lambda row: None)
        inputs = {**hashes, "settings": settings_identity(routed), "plugins": {}, "versions": versions()}
        with claimed(out, config | {"inputs": inputs}, routed.name):
            records = Records(out, AuditRow)
            known = read_records(out, AuditRow) if records.path.exists() else []
            summary = carried_out(known, records.append)
            write_text(Path(out) / "summary.json", summary.model_dump_json(indent=1) + "\n")
            draw_report(out)
            return summary


def _prepared(
    model: RoutedModel,
    questions: Sequence[Question],
    format: str | Format,
    rates: Sequence[float],
    seed: int,
    dataset: str,
    *,
    deep: bool,
) -> Measurement:
    """What is tried of each question; the oracle is tried of the first in the order of a hash of their ids."""
    rules, drawn = interventions(model, seed), first_of(questions, len(questions))
    prompts = [model.encode(q, format) for q in drawn]
    (state,) = model.prefill(prompts[:1], keep=False)
    plan = make_plan(model, rules, state, [model.packed(prompt) for prompt in prompts], rates, deep=deep)
    left_out = LeftOut(model, questions, format, seed) if len(questions) >= FEWEST_LEFT else None
    descended = frozenset(q.id for q in drawn[: plan.descended])
    return Measurement(model, format, plan, rules, descended, dataset, seed, left_out)


def _measured(
    measurement: Measurement,
    questions: Sequence[Question],
    known: Sequence[AuditRow],
    keep: Callable[[AuditRow], None],
    progress: Progress,
) -> list[AuditRow]:
    """The rows of all questions, in their order: those that are known, and others, which are kept as they come.

    Raises:
        DataError: a known row is of no question.
    """
    rows = {row.id: row for row in known}
    if strange := rows.keys() - {q.id for q in questions}:
        raise DataError(
            f"Expected rows of the questions that are asked, got one of {min(strange)!r}; {_AGAIN} elsewhere."
        )
    waiting = [q for q in questions if q.id not in rows]
    if waiting and measurement.left_out is not None:
        measurement.left_out.prepare(progress)
    batches = [waiting[i : i + BATCH] for i in range(0, len(waiting), BATCH)]
    for batch in by_size(progress, batches, f"auditing {measurement.dataset}", map(len, batches)):
        for row in measurement.rows(batch):
            keep(row)
            rows[row.id] = row
    return [rows[q.id] for q in questions]


def left_out_of(questions: Sequence[Question], dataset: str, *, deep: bool = False) -> dict[str, str]:
    """What an audit of questions cannot say, and why, as far as they tell it before a model is loaded."""
    (once, again), found = distinct(questions), dict[str, str]()
    if again:
        found["repeated questions"] = f"{again_in_words(again, 'questions', dataset)}; each counts once"
    if (n := len(once)) < FEWEST_LEFT:
        found[EXPECTED] = f"{n} questions are too few to leave one out of: give {FEWEST_LEFT} at least"
    if n < FEW and not deep:
        found[HEADROOM] = f"{n} questions are too few to say what re-mixing could reach: give {FEW} at least"
    if len(kinds := {kind_of(q) for q in once}) < 2:
        found["mutual information"] = f"the questions are of one kind, {min(kinds)!r}: give kinds as task or subject"
    return found


def settings(
    questions: Sequence[Question],
    format: str | Format,
    *,
    deep: bool,
    rates: Sequence[float],
    seed: int,
    dataset: str,
) -> dict[str, Any]:
    """What identifies an audit, beside its model."""
    return {
        "kind": ARM,
        "dataset": dataset,
        "questions": digest([q.row() for q in questions]),
        "format": format_key(format),
        "deep": deep,
        "rates": [float(rate) for rate in rates],
        "seed": seed,
    }


def check(questions: Sequence[Question], rates: Sequence[float], seed: int = 0) -> None:
    """Refuse what cannot be audited, before a model is loaded.

    Raises:
        DataError: too few questions, one without an answer, or two of one id.
        SettingError: a learning rate that is none, or a seed that nothing is drawn by.
    """
    if not 0 <= seed < 2**63:
        raise SettingError(f"Expected an audit's seed from 0 to 2^63 - 1, got {seed}; give such a number.")
    each = questions if isinstance(questions, Sequence) else [questions]
    if strange := next((one for one in each if not isinstance(one, Question)), None):
        raise DataError(
            f"audit(model, questions) expected Question records, got {type(strange).__name__}; those of a source are "
            "questions(SOURCE) of c3po_adaptive.tasks."
        )
    unanswered = [q.id for q in questions if q.answer is None]
    if unanswered:
        raise DataError(
            f"An audit expected labeled questions, got {len(unanswered)} without an answer, as {unanswered[0]!r}; "
            "give their answers, or leave them out."
        )
    if again := [id for id, n in Counter(q.id for q in questions).items() if n > 1]:
        raise DataError(f"An audit expected each id once, got {again[0]!r} again; rename or remove one of the two.")
    wrong = [rate for rate in rates if not (isinstance(rate, int | float) and 0 < rate <= sys.float_info.max)]
    if wrong or len(set(rates)) != len(rates):
        raise SettingError(
            f"Expected different learning rates above zero, got {list(rates)}; the usual ones are "
            f"{', '.join(f'{rate:g} ({of})' for rate, of in USUAL_RATES.items())}."
        )
    if (n := len(distinct(questions)[0])) < FEWEST:
        raise DataError(f"An audit expected {FEWEST} different questions at least, got {n}; give more of them.")


def summary_of(folder: Path | str) -> AuditSummary:
    """The summary of an audit's folder.

    Raises:
        DataError: there is none: no audit, or one that was interrupted.
    """
    return finished_summary(folder, AuditSummary, "audit")


def draw_report(folder: Path | str) -> None:
    """Draw the page of an audit's summary.

    Raises:
        DataError: there is none.
    """
    write_text(Path(folder) / "report.html", page(summary_of(folder), made_by(folder)))
