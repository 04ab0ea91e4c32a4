"""What a comparison could find at all, computed before it is run, after the correction that its verdicts make."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import ceil, inf, log10

from ...analysis.dataset_in_words import DatasetsInWords
from ...analysis.power import FLIPPING, POWER, foreseen, needed
from ..data import Data
from .comparison_config import Compared, ComparisonConfig

WANTED = 0.05
"""A gain that many would like to find, 0 to 1."""
GAIN = "a gain over the base"


@dataclass(frozen=True)
class Findable:
    """What could be found by one test.

    Attributes:
        dataset: its name, or "all": the mean over data sets.
        of: what is tested: any gain over the base, or a comparison by its arms.
        questions: how many are asked.
        kinds: of question, where these are the unit; None: questions are.
        comparisons: that share Holm's correction; 1: it is tested alone.
        least: in points: no smaller gain can be found, however it comes about.
        usual: in points: none smaller can where a fifth of the answers flip.
        needed: questions by which ``WANTED`` could be found at best, and where a fifth of them flip; None: unknown.
    """

    dataset: str
    of: str
    questions: int
    kinds: int | None
    comparisons: int
    least: float
    usual: float
    needed: tuple[int, int] | None

    def __str__(self) -> str:
        unit = "" if self.kinds is None else f" ({self.kinds} kinds)"
        place = "" if self.dataset == "all" else f" of {self.dataset}"
        text = f"power: {self.questions:,} questions{place}{unit} cannot show {self.of} "
        if self.least >= 100:
            text += "at all"
        elif self.kinds is not None:
            text += f"of less than about {_points(self.usual)} points, or of more where kinds differ"
        else:
            text += f"of less than about {_points(self.least)} points"
            if self.usual > self.least:
                text += f", nor of less than {_points(self.usual)} where a fifth of the answers change"
        if self.needed is not None and self.usual > 100 * WANTED:
            best, usual = map(_rounded, self.needed)
            text += f"; for {100 * WANTED:.0f} points take {usual:,}, at best {best:,}"
        alone = "tested alone" if self.comparisons == 1 else f"after Holm's correction over {self.comparisons}"
        return f"{text} ({alone})"


def findable(config: ComparisonConfig, data: Data) -> list[Findable]:
    """What each test of a comparison could find, with power 0.8: gains over the base on each data set and on the mean
    over several; what is primary; and comparisons over kinds of question.

    Of the others only those that are written down count among the comparisons that share a correction: this is a lower
    bound.
    """
    sizes = {name: [len(part.questions)] for name, part in data.items()}
    again = DatasetsInWords(config.model_dump(mode="json")).again(sizes)
    counted = [name for name in sizes if name not in again]
    if len(counted) > 1:
        sizes["all"] = [n for name in counted for n in sizes[name]]
    primary = [each for each in config.compared if each.primary]
    over_base = [each for each in primary if config.baseline in each.pair and each.unit == "question"]
    gains = len(sizes) * (len(config.arms) - 1) - len(over_base)
    where = "all" if "all" in sizes else counted[0]
    found = [_findable(name, GAIN, sizes[name], gains) for name in sizes] if gains else []
    found += [_findable(where, _difference(each), sizes[where], 1) for each in primary if each.unit == "question"]
    kinds = {name: len({q.subject for q in part.questions}) for name, part in data.items()}
    kinds |= {"all": sum(kinds[name] for name in counted)} if len(counted) > 1 else {}
    several = [name for name, count in kinds.items() if count > 1]
    by_kind = [each for each in config.compared if each.unit == "kind"]
    others = [each for each in config.compared if not each.primary and config.baseline not in each.pair]
    shared = len(several) * sum(not each.primary for each in by_kind) + len(sizes) * len(others)
    for each in by_kind:
        for name in [where] if each.primary else several:
            if kinds[name] > 1:
                tests = 1 if each.primary else shared
                found.append(_findable(name, _difference(each), sizes[name], tests, kinds[name]))
    return found


def _difference(each: Compared) -> str:
    return f"a difference of {each.a} and {each.b}"


def _findable(dataset: str, of: str, sizes: Sequence[int], comparisons: int, kinds: int | None = None) -> Findable:
    freedom = inf if kinds is None else kinds - 1.0
    least, usual = (100 * foreseen(sizes, comparisons, flipping, freedom) for flipping in (0.0, FLIPPING))
    wanted = (needed(WANTED, comparisons, 0.0), needed(WANTED, comparisons)) if kinds is None else None
    return Findable(dataset, of, sum(sizes), kinds, comparisons, round(least, 2), round(usual, 2), wanted)


def lines(found: Sequence[Findable]) -> Iterator[str]:
    """For a person: of several data sets the mean over them, and the smallest by itself, which shows least."""
    gains = [one for one in found if one.of == GAIN]
    by_itself = [one for one in gains if one.dataset != "all"]
    shown = [one for one in gains if one.dataset == "all"]
    shown += sorted(by_itself, key=lambda one: one.questions)[:1]
    for one in (*shown, *(one for one in found if one not in gains)):
        yield str(one)
    if found:
        yield f"  (of 0.05 two-sided, with power {POWER:g}; an arm has to be told from its controls, too)"


def _points(value: float) -> str:
    return f"{value:.0f}" if value >= 10 else f"{value:.1f}"


def _rounded(n: int) -> int:
    """To two digits, up."""
    step = 10 ** max(0, int(log10(n)) - 1)
    return int(ceil(n / step) * step)
