"""``{benchmarks}``: data sets that go by name."""

from __future__ import annotations

from sphinx.application import Sphinx
from written import Written, table

from c3po_adaptive.tasks.benchmarks import BENCHMARKS


class Benchmarks(Written):
    """A row for each."""

    def text(self) -> str:
        """Its name, where it is, and splits with labels."""
        rows = [
            [f"`{name}`", " ".join(filter(None, [f"`{one.path}`", one.config])), ", ".join(one.splits)]
            for name, one in BENCHMARKS.items()
        ]
        return table(("name", "on the Hub", "splits with labels"), rows)


def setup(app: Sphinx) -> dict[str, bool]:
    """Found by Sphinx."""
    app.add_directive("benchmarks", Benchmarks)
    return {"parallel_read_safe": True}
