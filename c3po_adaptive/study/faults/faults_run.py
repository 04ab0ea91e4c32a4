"""A study of known faults: every arm on every faulty model, and on the sound one."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from ...errors import PluginError, SettingError
from ...models.routed import RoutedModel
from ...progress import Progress, silent
from ...records.jsonl import Records, read_records
from ...registry import Registry, default_registry
from ...storage.files import write_text
from ...storage.lock import held
from ..comparison.evaluation import check_arms, check_strategies
from ..data import Data
from ..executor import HERE, Executor, Piece
from ..worker import UNKNOWN, pieces_left, run_pieces
from .fault_answer import FaultAnswer
from .fault_rows import FaultsSummary
from .faults_config import FaultsConfig
from .faults_page import draw_report
from .faults_summary import summarize
from .faults_worker import FaultsWorker


def run_faults(
    config: FaultsConfig,
    out: Path | str,
    registry: Registry | None = None,
    *,
    model: RoutedModel | None = None,
    executor: Executor = HERE,
    progress: Progress = silent,
) -> FaultsSummary:
    """Plant each fault in memory, have every selector with every optimizer answer, and hold them against the truth.

    An interrupted study resumes. ``out`` gets ``records.jsonl`` (a row for each question, faulty model and arm),
    ``summary.json`` and ``report.html``.

    Args:
        config: what is run.
        out: the study's folder.
        registry: of the strategies; default: built-ins and plugins of installed packages.
        model: the sound one, loaded already; else from the configuration.
        executor: where pieces are computed.
        progress: shows how many are.

    Raises:
        SettingError: a fault that the model cannot have, or an arm that cannot be.
        DataError: broken questions, or another run's folder.
        ModelError: a family whose routers' rows cannot be told.
    """
    known = registry or default_registry()
    worker = FaultsWorker.here(config, known, model, executor)
    check_strategies(config.comparison, known)
    worker.check_folder(out)
    data = worker.data
    site = worker.model.sites[0]
    check_model(worker, worker.model.layers, site.mixable, site.top_k)
    if worker.model.fault is not None:
        raise SettingError(
            f"Expected a sound model to plant faults in, got {config.model}, which has one; name its base."
        )
    with held(out):
        inputs = worker.claim(out)
        records = Records(out, FaultAnswer)
        failed = run_pieces(worker, records, _waiting(config, data, records), executor, progress)
        if failed:
            raise PluginError("\n".join(failed.values()))
        summary = summarize(read_records(out, FaultAnswer), config, worker.model.layers, inputs)
        write_text(Path(out) / "summary.json", summary.model_dump_json(indent=1) + "\n")
        draw_report(out)
        return summary


def check_model(worker: FaultsWorker, layers: tuple[int, ...], experts: int | None, top_k: int | None) -> None:
    """Refuse what the model or the data sets have too little for.

    Args:
        worker: of the study.
        layers: decoder layers that are MoE layers.
        experts: how many can be mixed in each; None: not known, and not checked.
        top_k: how many of these are used per token; likewise.

    Raises:
        SettingError: with the fault's or the arm's name.
    """
    for name, spec in worker.config.faults.items():
        try:
            for dose in spec.doses:
                spec.fault(layers, dose).fits(layers, experts or UNKNOWN)
        except SettingError as error:
            raise SettingError(f"Fault {name}: {error}") from error
    check_arms(worker.answering(), layers, experts, top_k)


def _waiting(config: FaultsConfig, data: Data, records: Records[FaultAnswer]) -> Iterator[Piece]:
    """One faulty model after another, whose references are kept."""
    for cell in config.cells:
        yield from pieces_left(config, data, records, [(n, 0) for n, (of, _) in config.parts.items() if of == cell])
