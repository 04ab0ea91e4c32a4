"""The mixture's arms, opened outside a run, for the scripts beside this one."""

from __future__ import annotations

import sys
from functools import cache
from pathlib import Path
from types import ModuleType

from c3po_adaptive import Optimizer
from c3po_adaptive.errors import SettingError
from c3po_adaptive.registry import Registry, new_registry
from c3po_adaptive.study.comparison.comparison_worker import ComparisonWorker
from c3po_adaptive.study.kind import read_study

PLUGINS = Path(__file__).parents[2] / "plugins"
USED = ("agreement", "learned_pathway", "reinforced", "transfer")


@cache
def registry() -> Registry:
    """With the plugins that arms of the mixture use."""
    made = new_registry()
    for name in USED:
        made.load_file(PLUGINS / f"{name}.py")
    return made


def plugin(name: str) -> ModuleType:
    """The module of one of them."""
    entry = next(one for one in registry().table() if one.plugin == str(PLUGINS / f"{name}.py"))
    return sys.modules[entry.module]


def worker_of(config: str, asked: str) -> ComparisonWorker:
    return ComparisonWorker.here(read_study(config, [f"@{asked}"])[1], registry())


def optimizer(worker: ComparisonWorker, arm: str) -> Optimizer:
    """The arm as it was run, from the references that all its questions share; SettingError if they do not."""
    if len({tuple(q.id for q in part.references) for part in worker.data.values()}) > 1:
        raise SettingError("Expected one pool of references for all data sets, got several; name another file.")
    dataset, setting = next(iter(worker.data)), worker.config.arms[arm]
    return Optimizer(
        worker.model,
        worker.reference_set(dataset),
        format=worker.config.format_of(dataset),
        settings=setting.remixing,
        registry=worker.registry,
        **{role: spec for role, spec in setting.specs.items() if role != "answerer"},
    )
