"""Arms side by side on the same questions: records, summary, report."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from ...analysis.matching_controls import controls_of, lacking
from ...analysis.summarize import summarize
from ...analysis.unfinished_run import missing
from ...analysis.verdict import Audited
from ...answerers.along_rule import AlongRule
from ...errors import DataError, PluginError, SettingError
from ...models.routed import RoutedModel
from ...progress import Progress, silent
from ...records.answer import AnswerRecord
from ...records.audit import Audit
from ...records.jsonl import Records, read_records
from ...records.parquet import PARQUET, write_parquet
from ...records.summary import Summary
from ...registry import Registry, default_registry
from ...report.comparison_page import render
from ...report.page import finished_summary
from ...rules.base import NamedRule
from ...rules.planned import check_planned
from ...storage.files import write_text
from ...storage.json_values import Values
from ...storage.lock import held
from ..data import Data, counted_once, poisoned_in_words
from ..executor import HERE, Executor
from ..worker import UNKNOWN, pieces_left, run_pieces
from .added_controls import with_controls
from .comparison_config import ComparisonConfig
from .comparison_worker import ComparisonWorker


def evaluate(
    config: ComparisonConfig,
    out: Path | str,
    registry: Registry | None = None,
    *,
    model: RoutedModel | None = None,
    executor: Executor = HERE,
    progress: Progress = silent,
) -> Summary:
    """Run every arm on every data set; an interrupted run resumes where it stopped.

    Args:
        config: what is run.
        out: the run's folder: ``records.jsonl``, ``summary.json``, ``report.html``.
        registry: of the strategies; default: built-ins and plugins of installed packages.
        model: loaded already; else from the configuration.
        executor: where pieces are computed.
        progress: shows how many are.

    Returns:
        The summary.

    Raises:
        DataError: the folder cannot be written or holds another run; questions or references are broken.
        SettingError: an arm that cannot be.
        UnknownNameError: a strategy that does not exist.
        PluginError: the base failed, or every other arm; one arm of several that fails is left out of the summary,
            which says so in ``failed``.
    """
    known = registry or default_registry()
    config = with_controls(config, known)
    check_strategies(config, known)
    worker = ComparisonWorker.here(config, known, model, executor)
    audited(config)
    worker.check_folder(out)
    data = worker.data
    check_arms(worker, worker.model.layers, worker.model.n_experts, worker.model.sites[0].top_k)
    check_kinds(config, data)
    with held(out):
        inputs = worker.claim(out)
        audited(config, inputs)
        records = Records(out, AnswerRecord)
        arms = [(name, draw) for name, arm in config.arms.items() for draw in range(arm.draws)]
        failed = run_pieces(worker, records, pieces_left(config, data, records, arms), executor, progress)
        if failed and (config.baseline in failed or failed.keys() == config.arms.keys() - {config.baseline}):
            raise PluginError("\n".join(failed.values()))
        return conclude(out, config, inputs, data, {name: len(part.questions) for name, part in data.items()}, failed)


def strategies_of(config: ComparisonConfig, registry: Registry) -> Iterator[tuple[str, Any]]:
    """Every strategy of every arm and its controls, with its role; errors as for ``registry.create``."""
    for arm in with_controls(config, registry).arms.values():
        for role, spec in arm.specs.items():
            yield role, registry.create(role, spec)


def check_strategies(config: ComparisonConfig, registry: Registry) -> None:
    """Refuse names and parameters that do not exist, and a run without a base.

    Raises:
        UnknownNameError: a strategy that does not exist.
        SettingError: a parameter that does not, no base, or an arm that cannot write what a data set asks for.
    """
    list(strategies_of(config, registry))
    _ = config.baseline
    written = [d.name for d in config.datasets if d.score == "generated"]
    for name, arm in config.arms.items():
        if written and not registry.create("answerer", arm.answerer).writes:
            raise SettingError(
                f"Arm {name}: expected an answerer that answers by what the model writes, such as remix, as "
                f"{written[0]} has score: generated, got {arm.name_of('answerer')}; leave the arm out, or take score: "
                "likelihood."
            )


def check_arms(worker: ComparisonWorker, layers: tuple[int, ...], experts: int | None, top_k: int | None) -> None:
    """Refuse arms that the model or the data sets have too little for: now, rather than after other arms were run.

    Args:
        worker: of the run.
        layers: decoder layers that are MoE layers.
        experts: how many there are in each; None: not known, and not checked.
        top_k: how many of these are used per token; likewise.

    Raises:
        SettingError: with the arm's name.
    """
    for name, arm in worker.config.arms.items():
        strategies, strategy = worker.registry.strategies(arm.specs), worker.strategy(name)
        try:
            for asked in worker.data.values():
                strategy.fits(strategies, layers, experts or UNKNOWN, asked.known)
            for rule in _rules(strategy):
                if experts and top_k:
                    check_planned(rule, layers, experts, top_k)
        except SettingError as error:
            raise SettingError(f"Arm {name}: {error}") from error


def _rules(answerer: object) -> Iterator[NamedRule]:
    """What an answerer, or the one that it corrects, runs along."""
    if isinstance(answerer, AlongRule):
        yield answerer.rule
    elif of := getattr(answerer, "of", None):
        yield from _rules(of)


def lacking_controls(worker: ComparisonWorker) -> dict[str, list[str]]:
    """Of each arm that is to get its controls, those that would decide on it and that it lacks all the same."""
    settings = {name: worker.setting(name) for name in worker.config.arms}
    lacks = {name: lacking(name, controls_of(name, settings), settings) for name in worker.config.controlled}
    return {name: words for name, words in lacks.items() if words}


def check_kinds(config: ComparisonConfig, data: Data) -> None:
    """Refuse kinds of question as the unit where there is one at most.

    Raises:
        SettingError: with what there is.
    """
    kinds = {(name, question.subject) for name, part in data.items() for question in part.questions}
    if len(kinds) < 2 and any(each.unit == "kind" for each in config.compared):
        raise SettingError(
            f"Expected questions of several kinds, which unit: kind resamples, got {len(kinds)}; give questions a "
            "subject, or leave the unit out."
        )


def conclude(
    out: Path | str,
    config: ComparisonConfig,
    inputs: Values,
    data: Data,
    asked: Mapping[str, int],
    failed: Mapping[str, str],
) -> Summary:
    """Write the summary and draw the report of a run's records, as far as they go.

    Args:
        out: the run's folder.
        config: what was run.
        inputs: what the run was claimed with beside its configuration.
        data: its questions and references, as far as they are at hand.
        asked: how many questions each data set has, as far as that is known.
        failed: arms that are left out, and why.

    Raises:
        DataError: there are no records, or none of ours, or none of the base; or the audit is of another model.
    """
    going = {name: arm.draws for name, arm in config.arms.items() if name not in failed}
    records = [record for record in read_records(out, AnswerRecord) if record.arm not in failed]
    compared = [each for each in config.compared if not {*each.pair} & failed.keys()]
    summary = summarize(
        records,
        config=config.model_dump(mode="json"),
        seed=config.seed,
        baseline=config.baseline,
        standard=None if config.standard in failed else config.standard,
        headline=None if config.headline in failed else config.headline,
        compare=list(dict.fromkeys(each.pair for each in compared)),
        by_kind=[each.pair for each in compared if each.unit == "kind"],
        primary=[(*each.pair, each.unit) for each in compared if each.primary],
        inputs=inputs,
        audited=audited(config, inputs),
        missing=[f"{arm} failed" for arm in failed]
        + missing(records, going, {d.name: asked.get(d.name) for d in config.datasets}),
    )
    told = {"counted_once": tuple(counted_once(data)), "poisoned": tuple(poisoned_in_words(data))}
    summary = summary.model_copy(update={"failed": dict(failed), **told})
    write_text(Path(out) / "summary.json", summary.model_dump_json(indent=1) + "\n")
    write_parquet(records, Path(out) / PARQUET)
    draw_report(out, data)
    return summary


def audited(config: ComparisonConfig, inputs: Values | None = None) -> Audited | None:
    """What the audit that a configuration names says, if it names one.

    Raises:
        DataError: there is none, or with the inputs of a run, it is of another model.
    """
    if config.audit is None:
        return None
    found = finished_summary(config.audit, Audit, "audit")
    if inputs and inputs.get("model") not in (None, found.of_model):
        raise DataError(
            f"Expected an audit of the run's model, got {config.audit}, which is of another; "
            "audit this one, with the same dtype and revision, or leave audit out."
        )
    return Audited(found.line, found.of_model)


def draw_report(out: Path | str, data: Data) -> None:
    """Draw ``report.html`` of a run's summary and records.

    Args:
        out: the run's folder.
        data: the texts of its questions and references, as far as they are at hand; ids stand for others.
    """
    asked = {(name, q.id): q for name, part in data.items() for q in part.questions}
    known = {(name, q.id): q for name, part in data.items() for q in part.references}
    render(out, asked, known)
