"""Which kinds of study there are: comparisons, and what plugins bring; and which of them a file or a folder is of."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from inspect import isfunction
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import PluginError, SettingError
from ..storage.run_folder import FILES, claimed_config
from . import comparison
from .comparison import ComparisonConfig
from .overrides import parsed
from .study_config import of_datasets, read_yaml

if TYPE_CHECKING:
    from ..registry import Registry
    from .kind import Study

DEFAULT = "comparison"
"""The kind of a configuration that names none."""
KIND = "kind of study"


def kinds(registry: Registry | None = None) -> dict[str, Study[Any]]:
    """Every kind by its name: comparisons, and those of a registry's plugins.

    Raises:
        PluginError: a plugin brought something else, or another comparison.
    """
    return {name: _kind(name, registry) for name in names_of_kinds(registry)}


def kind_of(raw: Mapping[str, object], registry: Registry | None = None) -> Study[Any]:
    """The kind that plain values of a configuration are of; others are not loaded for it.

    Raises:
        UnknownNameError: there is no such kind.
        PluginError: as of ``kinds``.
    """
    name, known = raw.get("kind", DEFAULT), names_of_kinds(registry)
    if not isinstance(name, str) or name not in known:
        from ..registry.roles import REMEDY, unknown

        raise unknown(KIND, str(name), known, REMEDY)
    return _kind(name, registry)


def names_of_kinds(registry: Registry | None) -> list[str]:
    """Of every kind; none is loaded for it."""
    return list(dict.fromkeys([DEFAULT, *(() if registry is None else registry.others(KIND))]))


def _kind(name: str, registry: Registry | None) -> Study[Any]:
    from .kind import Study

    if registry is None or name not in registry.others(KIND):
        return comparison.STUDY
    brought = registry.other(KIND, name)
    study = brought() if isfunction(brought) else brought
    if not isinstance(study, Study) or study.kind != name or name == DEFAULT:
        raise PluginError(
            f"Expected register_studies to bring objects of subclasses of Study, each by its kind, other than "
            f"{DEFAULT}, or functions that make them, got {study!r} by {name!r}; correct the plugin."
        )
    FILES[name] = study.files
    return study


def read_study(
    path: Path | str,
    settings: Sequence[str] = (),
    datasets: Sequence[str] = (),
    registry: Callable[[], Registry | None] = lambda: None,
    arms: Sequence[str] = (),
) -> tuple[Study[Any], Any]:
    """The kind and the configuration of a YAML file. That of a comparison is checked before what runs it is imported,
    which takes seconds.

    Args:
        settings: ``key.key=value``, on top.
        datasets: names of those that are run; none: all.
        registry: gives that of plugins' kinds.
        arms: of a comparison, likewise; its base is run, too.

    Raises:
        SettingError: as for ``read_yaml``, ``Study.parse`` and ``ComparisonConfig.only``; arms of another kind.
        UnknownNameError: a kind that there is not, or a data set or an arm that it does not have.
    """
    raw = read_yaml(path)
    if raw.get("kind", DEFAULT) == DEFAULT:
        config = of_datasets(parsed(ComparisonConfig, raw, settings).only(arms), datasets)
        return comparison.STUDY, config
    if arms:
        raise SettingError(f"Expected arms of a comparison, got a study of kind {raw['kind']!r}; leave --arm out.")
    study = kind_of(raw, registry())
    return study, of_datasets(study.parse(raw, settings), datasets)


def study_in(folder: Path, registry: Registry | None = None) -> Study[Any]:
    """The kind that a run folder is of.

    Raises:
        DataError: it is no run folder.
    """
    return kind_of(claimed_config(folder), registry)
