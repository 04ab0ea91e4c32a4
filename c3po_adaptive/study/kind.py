"""What a kind of study is: parse, plan, run, draw. Each is one folder beside this file, found by its ``STUDY``."""

from __future__ import annotations

import pkgutil
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Any, ClassVar, Generic, TypeVar

from ..errors import SettingError, UnknownNameError, suggestion
from ..progress import Progress, silent
from ..records.summary import TwoRuns
from ..registry import Registry
from ..settings import Settings
from ..storage.run_folder import claimed_config
from .config import read_yaml
from .executor import HERE, Executor
from .overrides import with_settings
from .plan import Plan

C = TypeVar("C", bound=Settings)
DEFAULT = "comparison"
"""The kind of a configuration that names none."""


@dataclass(frozen=True)
class Table:
    """Rows for the terminal, and what is said below them."""

    columns: tuple[str, ...]
    rows: Sequence[Sequence[str]]
    sentences: Sequence[str] = ()


class Study(ABC, Generic[C]):
    """A kind of study.

    Attributes:
        kind: its name in configurations: that of its folder.
        config: what its configurations are.
    """

    kind: ClassVar[str]
    config: type[C]

    def parse(self, raw: Mapping[str, Any], settings: Sequence[str] = ()) -> C:
        """A checked configuration.

        Args:
            raw: plain values.
            settings: ``key.key=value``, on top.

        Raises:
            SettingError: an unknown key, or a value of the wrong kind; the key is named.
        """
        return self.config(**with_settings(raw, settings, self.config, self.defaults()))

    def defaults(self) -> dict[str, Any]:
        """Plain values of keys that may be changed in part without being written out."""
        return {}

    @abstractmethod
    def strategies(self, config: C, registry: Registry) -> Iterator[tuple[str, Any]]:
        """Every strategy that it uses, with its role.

        Raises:
            UnknownNameError: a name that does not exist.
            SettingError: a parameter that does not exist, or a value that it cannot have.
        """

    @abstractmethod
    def plan(self, config: C, registry: Registry, begun: Path | None = None) -> Plan:
        """What would be run and what it takes, without running it.

        Args:
            config: of the study.
            registry: of its strategies.
            begun: the folder of a run of it, whose pace says how long the rest takes; None: of none.

        Raises:
            C3POError: it could not be run: a strategy, a parameter or a source of questions that is not there.
        """

    @abstractmethod
    def run(
        self,
        config: C,
        out: Path,
        registry: Registry,
        *,
        executor: Executor = HERE,
        progress: Progress = silent,
    ) -> Any:
        """Run it into a folder, or resume there; the summary, which stands in ``summary.json``, too."""

    @abstractmethod
    def draw(self, out: Path, questions: Sequence[str] = ()) -> Iterator[str]:
        """Draw the report of a folder again.

        Args:
            out: the folder of a run.
            questions: sources with the texts of questions; default: where the configuration has them from.

        Yields:
            What has to be said about it.
        """

    def beside(self, a: Path, b: Path, out: Path | None = None) -> tuple[TwoRuns, Table]:
        """Compare two runs of this kind: the summary, and what the terminal shows of it.

        Args:
            a: the folder of one.
            b: that of another.
            out: a folder to write ``summary.json`` and ``report.html`` to; None: none.

        Raises:
            SettingError: runs of this kind are not compared.
            DataError: these have nothing in common.
        """
        raise SettingError(f"Expected two runs of a kind that is compared side by side, got {self.kind}; report each.")

    @abstractmethod
    def table(self, summary: Any) -> Table:
        """What the terminal shows of a summary."""


@cache
def kinds() -> dict[str, Study[Any]]:
    """Every kind by its name."""
    here = Path(__file__).parent
    names = [found.name for found in pkgutil.iter_modules([str(here)]) if found.ispkg]
    return {name: import_module(f".{name}", __package__).STUDY for name in names}


def kind_of(raw: Mapping[str, Any]) -> Study[Any]:
    """The kind that plain values of a configuration are of.

    Raises:
        UnknownNameError: there is no such kind.
    """
    name = raw.get("kind", DEFAULT)
    if not isinstance(name, str) or name not in kinds():
        hint = suggestion(str(name), kinds(), "name one of these, or none for a comparison.")
        raise UnknownNameError(f"Expected a kind of study among {', '.join(kinds())}, got {name!r}; {hint}")
    return kinds()[name]


def read_study(path: Path | str, settings: Sequence[str] = (), datasets: Sequence[str] = ()) -> tuple[Study[Any], Any]:
    """The kind and the configuration of a YAML file.

    Args:
        path: of the file.
        settings: ``key.key=value``, on top.
        datasets: names of those that are run; none: all.

    Raises:
        SettingError: as for ``read_yaml`` and ``Study.parse``.
        UnknownNameError: a data set that it does not have.
    """
    raw = read_yaml(path)
    study = kind_of(raw)
    config = study.parse(raw, settings)
    return study, _of_datasets(config, datasets) if datasets else config


def _of_datasets(config: Any, names: Sequence[str]) -> Any:
    known = {dataset.name: dataset for dataset in getattr(config, "datasets", ())}
    for name in names:
        if name not in known:
            hint = suggestion(name, known, "name one of these.")
            raise UnknownNameError(f"Expected a data set among {', '.join(known) or 'none'}, got {name!r}; {hint}")
    return config.model_copy(update={"datasets": tuple(known[name] for name in dict.fromkeys(names))})


def study_in(folder: Path) -> Study[Any]:
    """The kind that a run folder is of.

    Raises:
        DataError: it is no run folder.
    """
    return kind_of(claimed_config(folder))
