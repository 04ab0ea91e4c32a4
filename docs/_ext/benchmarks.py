"""``{benchmarks}``: data sets that go by name."""

from __future__ import annotations

from c3po_benchmarks import BENCHMARKS, FILES_ONLY, Benchmark
from sphinx.application import Sphinx
from written import Written, table


class Benchmarks(Written):
    """A row for each."""

    def text(self) -> str:
        """Its name, where it is, and splits with labels."""
        rows = [[f"`{name}`", where(one), ", ".join(one.splits)] for name, one in BENCHMARKS.items()]
        rows += [[f"`{name}`", f"not there: {why}", "as in its files"] for name, why in FILES_ONLY.items()]
        return table(("name", "on the Hub", "splits with labels"), rows)


def where(one: Benchmark) -> str:
    """Hub id and configuration."""
    config = f"{len(one.subjects)} tasks" if one.subjects else one.config
    return " ".join(filter(None, [f"`{one.path}`", config]))


def setup(app: Sphinx) -> dict[str, bool]:
    """Found by Sphinx."""
    app.add_directive("benchmarks", Benchmarks)
    return {"parallel_read_safe": True}
