"""``{bed}``: the kinds of tasks of the embedded model's bed."""

from __future__ import annotations

from collections.abc import Sequence

from c3po_bed import HUB, KINDS, LEARNED, SIBLINGS, Kind, cases
from sphinx.application import Sphinx
from written import Written, table


class Bed(Written):
    """A row for each."""

    def text(self) -> str:
        """What it asks, its case and family, where it is from, its licence and its id on the Hub."""
        reworded = cases()["reworded"]
        rows = [
            [f"`{name}`", one.about, case(name, reworded), source(one), licence(one), hub(name)]
            for name, one in KINDS.items()
        ]
        return table(("kind", "asks", "case: family", "from", "licence, as best known", "on the Hub"), rows)


def case(name: str, reworded: Sequence[str]) -> str:
    """Learned, with other words or without; sibling; or unknown."""
    if name in LEARNED:
        return f"seen{', reworded' if name in reworded else ''}: {LEARNED[name]}"
    return f"sibling: {SIBLINGS[name]}" if name in SIBLINGS else "unknown"


def source(one: Kind) -> str:
    """Data set and repository."""
    return f"{one.source.name} ({one.source.where}){'; options or labels made' if one.made else ''}"


def licence(one: Kind) -> str:
    """In a word or two, and in full."""
    return f"**{one.source.terms}**: {one.source.licence}"


def hub(name: str) -> str:
    """Id and configuration, of those that are there."""
    benchmark = HUB[name].benchmark if name in HUB else None
    return " ".join(filter(None, [f"`{benchmark.path}`", benchmark.config])) if benchmark else "in files alone"


def setup(app: Sphinx) -> dict[str, bool]:
    """Found by Sphinx."""
    app.add_directive("bed", Bed)
    return {"parallel_read_safe": True}
