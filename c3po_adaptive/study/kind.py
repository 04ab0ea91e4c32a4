"""What a kind of study is: parse, plan, run, draw."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Generic, TypeVar

from ..progress import Progress, silent
from ..registry import Registry
from ..settings import Settings
from ..storage.json_files import Values
from ..storage.lock import held
from ..storage.run_folder import DRAWN, RECORDS, check_folder, claim
from .executor import HERE, Executor
from .overrides import parsed
from .plan import Plan

C = TypeVar("C", bound=Settings)


@dataclass(frozen=True)
class Table:
    """Rows for the terminal, and what is said below them.

    Attributes:
        columns: their names.
        rows: a cell a column.
        sentences: what is said.
        brief: columns that are shown where nobody asks for all; (): all.
    """

    columns: tuple[str, ...]
    rows: Sequence[Sequence[str]]
    sentences: Sequence[str] = ()
    brief: tuple[str, ...] = ()

    def in_brief(self) -> Table:
        """The same with its brief columns alone."""
        shown = [i for i, name in enumerate(self.columns) if not self.brief or name in self.brief]
        rows = [[row[i] for i in shown] for row in self.rows]
        return Table(tuple(self.columns[i] for i in shown), rows, self.sentences)


class Study(ABC, Generic[C]):
    """A kind of study.

    Attributes:
        kind: its name in configurations, under which a plugin brings it.
        files: names of what its runs write beside ``config.json``; ``--overwrite`` touches no others.
        config: what its configurations are.
    """

    kind: ClassVar[str]
    files: ClassVar[tuple[str, ...]] = (RECORDS, *DRAWN)
    config: type[C]

    def parse(self, raw: Mapping[str, object], settings: Sequence[str] = ()) -> C:
        """A checked configuration.

        Args:
            raw: plain values.
            settings: ``key.key=value``, on top.

        Raises:
            SettingError: an unknown key, or a value of the wrong kind; the key is named.
        """
        return parsed(self.config, raw, settings)

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

    def foretold(self, config: C) -> Iterator[str]:
        """What it could find at all, in words, where that is known before it is run."""
        yield from ()

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

    @abstractmethod
    def table(self, summary: Any) -> Table:
        """What the terminal shows of a summary."""


@contextmanager
def claimed(out: Path | str, config: Values, model: str | None = None) -> Iterator[None]:
    """While the block lasts a run's folder is ours: new, or begun with the same plain values of a configuration.

    Args:
        out: the folder.
        config: what is run, with what else identifies it.
        model: its name, for readers.

    Raises:
        DataError: it cannot be written, holds another run, is not ours, or another process runs in it.
    """
    check_folder(out, config, {})
    with held(out):
        claim(out, config, model)
        yield
