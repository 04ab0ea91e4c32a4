"""A study of faithfulness: every score of layers beside what re-mixing each of them really does."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from ...errors import PluginError, SettingError
from ...models.routed import RoutedModel
from ...optimizers.base import PathwayOptimizer
from ...progress import Progress, silent
from ...records.jsonl import Records, read_records
from ...registry import Registry, default_registry
from ...remixing.training import check_enough
from ...routing.mixing import core_size
from ...selectors.scored import ScoredLayers
from ...storage.files import write_text
from ...storage.lock import held
from ..data import counted_once
from ..executor import HERE, Executor
from ..worker import UNKNOWN, pieces_left, run_pieces
from .faithfulness_config import FaithfulnessConfig
from .faithfulness_page import draw_report
from .faithfulness_summary import TRUTH, FaithfulnessSummary, summarize
from .faithfulness_worker import FaithfulnessWorker
from .layer_record import ScoreRecord


def run_faithfulness(
    config: FaithfulnessConfig,
    out: Path | str,
    registry: Registry | None = None,
    *,
    model: RoutedModel | None = None,
    executor: Executor = HERE,
    progress: Progress = silent,
) -> FaithfulnessSummary:
    """Measure each question's single-layer effects, and those of leaving a layer out, score layers, and write all.

    An interrupted study resumes. ``out`` gets ``records.jsonl`` (a row for each question and score),
    ``summary.json`` and ``report.html``.

    Args:
        config: what is run.
        out: the study's folder.
        registry: of the strategies; default: built-ins and plugins of installed packages.
        model: loaded already; else from the configuration.
        executor: where pieces are computed.
        progress: shows how many are.

    Raises:
        SettingError: a score that is no selector with scores.
        DataError: broken questions, or another run's folder.
    """
    known = registry or default_registry()
    worker = FaithfulnessWorker.here(config, known, model, executor)
    check_strategies(worker)
    worker.check_folder(out)
    data = worker.data
    check_model(worker, worker.model.layers, worker.model.n_experts)
    with held(out):
        inputs = worker.claim(out)
        records = Records(out, ScoreRecord)
        waiting = (replace(piece, arm="") for piece in pieces_left(config, data, records, [(TRUTH, 0)]))
        failed = run_pieces(worker, records, waiting, executor, progress)
        if failed:
            raise PluginError("\n".join(failed.values()))
        layers = worker.model.layers
        summary = summarize(read_records(out, ScoreRecord), config, layers, inputs, counted_once(data))
        write_text(Path(out) / "summary.json", summary.model_dump_json(indent=1) + "\n")
        draw_report(out)
        return summary


def check_strategies(worker: FaithfulnessWorker) -> None:
    """Refuse what cannot be, whatever the model.

    Raises:
        SettingError: a score that is no selector with scores, or looks at neighbours that the arm does not have.
        UnknownNameError: a name that does not exist.
    """
    _check_neighbours(worker.strategies.optimizer, worker.scores)


def check_model(worker: FaithfulnessWorker, layers: Sequence[int], experts: int | None) -> None:
    """Refuse what the model or the data sets have too few of.

    Args:
        worker: of the study.
        layers: decoder layers that are MoE layers.
        experts: how many there are in each; None: not known, and not checked.

    Raises:
        SettingError: with what there is.
    """
    experts = experts or UNKNOWN
    _check_numbers(worker.config, len(layers), experts)
    for name, selector in worker.scores.items():
        try:
            replace(selector, n=0).fits(tuple(layers), experts)  # it chooses none
            for asked in worker.data.values():
                check_enough(worker.strategies.optimizer.references_needed + selector.references_needed, asked.known)
        except SettingError as error:
            raise SettingError(f"Score {name}: {error}") from error


def _check_numbers(config: FaithfulnessConfig, layers: int, experts: int) -> None:
    if config.n > layers or config.points[-1] >= layers or core_size(config.experts, experts) > experts:
        raise SettingError(
            f"Expected n of at most {layers} and points below it (the model's MoE layers), and experts of at most "
            f"{experts}, got n={config.n}, points {list(config.points)} and experts={config.experts}."
        )


def _check_neighbours(optimizer: PathwayOptimizer, scores: Mapping[str, ScoredLayers]) -> None:
    wanting = [name for name, selector in scores.items() if selector.needs_neighbours]
    if wanting and not optimizer.needs_neighbours:
        raise SettingError(
            f"Expected an arm that re-mixes by neighbours, as {', '.join(wanting)} look at them, got {optimizer.name}; "
            "name another optimizer, or leave those scores out."
        )
