"""References behind their own passages: how likely each makes the right answer, and what each teaches."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, cast

import numpy as np
import torch
from torch import Tensor

from c3po_adaptive import ReferenceArtifact, ReferenceBatch

from .choice import Array
from .search import PassageSearch, Told

if TYPE_CHECKING:
    from c3po_adaptive import Prompt, ReferenceSet

SAMPLE = 16  # of what is told, that what an artifact takes is measured on


def _right(references: ReferenceBatch) -> Tensor:
    logs = references.own_scores.log_softmax(-1)
    return logs.gather(1, references.answers.to(logs.device)[:, None]).squeeze(1)


RIGHT = ReferenceArtifact("right answer", _right)
"""``[N]`` log-likelihood of each reference's right choice among its choices, along its own pathway."""


@dataclass(eq=False)
class ToldReferences:
    """N references, each alone and behind each of its passages.

    Attributes:
        references: labeled.
        search: finds their passages.
        share: ``[N, 1 + k]`` how much of what a reference teaches is taught alone and behind each passage; to be set.
    """

    references: ReferenceSet
    search: PassageSearch
    share: Array = field(default_factory=lambda: np.zeros((0, 0)))

    @cached_property
    def told(self) -> list[list[Told]]:
        """Of each reference, alone first."""
        return [self.search.each(question) for question in self.references.questions]

    @cached_property
    def right(self) -> Array:
        """``[N, 1 + k]`` log-likelihood of the right answer alone and behind each passage; -inf where there is none."""
        from scipy.special import log_softmax

        found = np.full((len(self.references), 1 + self.search.k), -np.inf)
        asked = zip(self.references.scores, self.references.questions, strict=True)
        found[:, 0] = [log_softmax(scores)[question.answer] for scores, question in asked]
        places = [(row, z) for row, told in enumerate(self.told) for z in range(1, len(told))]
        if places:
            rows, columns = zip(*places, strict=True)
            found[rows, columns] = self.search.context.taught(RIGHT, *self._labeled(places)).cpu().numpy()
        return found

    def teach(self, artifact: ReferenceArtifact, rows: Sequence[int]) -> Tensor:
        """``[M, …]`` what some references teach: of each the mean over how it is put, by ``share``."""
        places = [(row, int(z)) for row in rows for z in self.share[row].nonzero()[0]]
        each = self.search.context.taught(artifact, *self._labeled(places))
        whose = {row: m for m, row in enumerate(rows)}
        share = torch.tensor([self.share[place] for place in places]).to(each)
        found = each.new_zeros(len(rows), *each.shape[1:])
        at = torch.tensor([whose[row] for row, _ in places], device=each.device)
        self._taught.setdefault(artifact.name, artifact)
        return found.index_add(0, at, share.view(-1, *[1] * (each.ndim - 1)) * each)

    @cached_property
    def _taught(self) -> dict[str, ReferenceArtifact]:
        """What was asked for, by name."""
        return {}

    @property
    def flops(self) -> float:
        """Of running each reference alone and behind its passages, and of what was asked for of each."""
        read = sum(self.search.context.model.plain_work(one.prompt).flops for told in self.told for one in told)
        read += self.search.setup_flops
        places = [(int(row), int(z)) for row, z in np.argwhere(self.share > 0)]
        some = places[:: -(-len(places) // SAMPLE)]
        each = [self.search.context.teaching_flops(what, *self._labeled(some)) for what in self._taught.values()]
        return read + len(places) * sum(each)

    def _labeled(self, places: Sequence[tuple[int, int]]) -> tuple[list[Prompt], list[int]]:
        """Prompts, and their right choices."""
        prompts = [self.told[row][z].prompt for row, z in places]
        return prompts, [cast(int, self.references.questions[row].answer) for row, _ in places]
