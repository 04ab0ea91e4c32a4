"""Arms on data sets, and what is compared among them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property

from ..errors import DataError
from ..records.answer import Answered, AnswerRecord
from ..records.setting import Setting
from ..records.summary import Agreement, AmongDraws, Comparison, Coverage, Predicted, Row
from . import statistics as stats
from .arm_row import row, settings_of
from .by_dataset import Arms
from .dataset_in_words import DatasetsInWords
from .matching_controls import RANDOM_NEIGHBOURS, controls_of
from .over_kinds import compare_over_kinds
from .pathway_similarity import similarity_of_pathways
from .repeated_controls import among_draws
from .strength_of_signal import predicted_benefit, risk_by_coverage


class ArmComparisons:
    """What a summary's rows and comparisons are made from.

    Args:
        groups: records by data set and arm.
        baseline: the arm that gains are measured against.
        seed: of the bootstrap.
        unfinished: of a run, which may have answered each data set with other arms: two arms are compared on the
            questions that both answered; else others are an error.

    Raises:
        DataError: the baseline did not answer some data set.
    """

    def __init__(
        self,
        groups: Mapping[str, Arms],
        baseline: str,
        seed: int,
        *,
        unfinished: bool,
    ) -> None:
        self.groups, self.baseline = groups, baseline
        self.seed, self.unfinished = seed, unfinished
        for dataset, arms in groups.items():
            if baseline not in arms:
                raise DataError(
                    f"Expected records of the arm {baseline!r} on {dataset!r}, got {sorted(arms)}; "
                    "run it as well, gains need it."
                )

    @cached_property
    def controls(self) -> dict[tuple[str, str], list[str]]:
        """Of each arm on each data set; of the base and of upper bounds none.

        Random neighbours are none where all references were drawn: nothing was left to chance after all.
        """
        found = {}
        for dataset, arms in self.groups.items():
            settings = settings_of(arms)
            all_drawn = [arm for arm, own in arms.items() if _all_drawn(settings[arm], own)]
            for arm, own in arms.items():
                bare = arm == self.baseline or own[0].needs_label
                names = [] if bare else controls_of(arm, settings)
                found[dataset, arm] = [name for name in names if name not in all_drawn]
        return found

    @cached_property
    def gains(self) -> dict[tuple[str, str], Comparison]:
        """Every arm minus the base, by data set and arm."""
        return {
            (dataset, arm): self._compared(*self._pair(dataset, arm, self.baseline))
            for dataset, arms in self.groups.items()
            for arm in arms
        }

    def rows(self, asked: DatasetsInWords, headline: str | None) -> Iterator[Row]:
        """Of every arm, the base included; without a verdict, which takes all comparisons."""
        for (dataset, arm), gain in self.gains.items():
            own, base = self._pair(dataset, arm, self.baseline)
            yield row(
                dataset,
                own,
                base,
                gain,
                self.seed,
                references=asked.references(dataset),
                format=asked.format(dataset),
                controls=tuple(self.controls[dataset, arm]),
                headline=arm == headline,
            )

    def with_controls(self, compare: Sequence[tuple[str, str]]) -> list[Comparison]:
        """Every arm minus its controls, and pairs that are asked for; each pair once, and none with the base."""
        found = []
        for dataset, arms in self.groups.items():
            wanted = [(arm, control) for arm in arms for control in self.controls[dataset, arm]] + [*compare]
            made = [{arm, self.baseline} for arm in arms]
            for a, b in wanted:
                if {a, b} not in made and {a, b} <= arms.keys():
                    made.append({a, b})
                    one, two = self._pair(dataset, a, b)
                    found += [self._compared(one, two)] if one and two else []
        return found

    def over_kinds(self, pairs: Sequence[tuple[str, str]]) -> list[Comparison]:
        """Pairs that are compared with kinds of question as the unit, on each data set that has several."""
        once = {frozenset(pair): pair for pair in reversed(pairs)}.values()
        there = [(dataset, a, b) for dataset, arms in self.groups.items() for a, b in once if {a, b} <= arms.keys()]
        sides = (self._pair(*each) for each in there)
        found = [compare_over_kinds(one, two, seed=self.seed) for one, two in sides if one and two]
        return [c for c in found if c is not None]

    def draws(self) -> list[AmongDraws]:
        """Where each arm stands among the draws of each of its controls that was drawn several times."""
        if self.unfinished:
            return []
        places = (
            among_draws(dataset, *(self.groups[dataset][name] for name in (arm, control, self.baseline)))
            for (dataset, arm), names in self.controls.items()
            for control in names
        )
        return [place for place in places if place is not None]

    def risk(self) -> list[Coverage]:
        """Risk against coverage of every arm that weighs a signal."""
        every = [(dataset, own) for dataset, arms in self.groups.items() for own in arms.values()]
        return [point for dataset, own in every for point in risk_by_coverage(dataset, own, seed=self.seed)]

    def predicted(self) -> list[Predicted]:
        """Predicted beside realised benefit of every arm that weighs a signal."""
        return [
            row
            for dataset, arms in self.groups.items()
            for own in arms.values()
            for row in predicted_benefit(dataset, own, arms[self.baseline], seed=self.seed)
        ]

    def near(self, standard: str) -> list[Agreement]:
        """How near each arm comes to a standard, on each data set."""
        found = []
        for dataset, arms in self.groups.items():
            if dataset != "all" and (standard in arms or not self.unfinished):
                own = {arm: self._pair(dataset, arm, standard)[0] if standard in arms else arms[arm] for arm in arms}
                whole = {arm: [r for r in each if isinstance(r, AnswerRecord)] for arm, each in own.items()}
                found += similarity_of_pathways(whole, standard, seed=self.seed)
        return found

    def _compared(self, one: Sequence[Answered], two: Sequence[Answered]) -> Comparison:
        """With the difference of their log-likelihoods."""
        nll = stats.paired_mean(one, two, stats.gold_nll, seed=self.seed)
        fields = {"nll_difference": nll.value, "nll_ci_low": nll.low, "nll_ci_high": nll.high}
        return stats.compare(one, two, seed=self.seed).model_copy(update=fields)

    def _pair(self, dataset: str, a: str, b: str) -> tuple[list[Answered], list[Answered]]:
        """What of two arms can be compared."""
        one, two = (self.groups[dataset][name] for name in (a, b))
        return stats.on_common_questions(one, two) if self.unfinished else (one, two)


def _all_drawn(setting: Setting, own: Sequence[Answered]) -> bool:
    """Of an arm with random neighbours: whether they were all that there are, those that it may learn from."""
    if setting.varies != (RANDOM_NEIGHBOURS,):
        return False
    wanted = setting.retriever.number("k") or 0 if setting.retriever else 0
    return all(r.neighbours_used and (r.neighbours_used == r.labels or r.neighbours_used < wanted) for r in own)
