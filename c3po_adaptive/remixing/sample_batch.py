"""One batch of samples on its way through the remixer: its problems, its neighbours, its ledgers."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from typing import TYPE_CHECKING, Any, cast

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from ..errors import DataError, SettingError
from ..ledger import Entry, Ledger, Work, summed
from ..losses import right_answer_loss
from ..models.provenance import own_pathway
from ..models.routed import RoutedModel
from ..models.snapshot import Snapshot
from ..problem import FaultTruth, LabeledProblem, Problem, ReferenceArtifact
from ..progress import bar
from ..references.artifacts import SAMPLE, States, mean_flops, of_references
from ..references.prefill_store import PrefillStore
from ..references.reference_set import ReferenceSet
from ..routing.scores import TailScores
from ..routing.states import State
from ..settings import RemixSettings
from ..types import Head, Neighbours, Pathway, Prompt, Question, Selection, Transfer, draw_key
from .spending import MINE, NEAR, Clock, Spending, Used

if TYPE_CHECKING:
    from ..tasks.formats import Format


Teach = Callable[[ReferenceArtifact, Sequence[int]], Tensor]
"""``[M, …]`` an artifact of M references, by row."""


@dataclass(frozen=True, eq=False)
class SampleBatch:
    """B samples with their neighbours.

    Attributes:
        model: the frozen model.
        format: how questions are put.
        settings: how ω acts.
        candidates: the references that may be neighbours; None: no neighbours.
        states: the samples' prefilled prompts.
        neighbours: see ``Problem``.
        excluded: see ``Problem``.
        questions: the samples with their labels; there only where an upper bound, or training, may look at them: what
            is not here no strategy can look at.
        store: the references' states on disk.
        clock: of the phases.
        learned_from: what all candidates take, in FLOPs, of each artifact that was asked for; shared between batches.
        teach: what some candidates, by row, teach, where that is not what each does put by the format alone.
        spending: what its losses take.
    """

    model: RoutedModel
    format: str | Format
    settings: RemixSettings
    candidates: ReferenceSet | None
    states: Sequence[State]
    neighbours: Neighbours
    excluded: tuple[frozenset[int], ...] | None
    questions: Sequence[Question] | None
    store: PrefillStore | None
    clock: Clock
    learned_from: dict[str, float] = field(default_factory=dict)
    teach: Teach | None = None
    _of: Snapshot = field(init=False)
    spending: Spending = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_of", self.model.snapshot)
        object.__setattr__(self, "spending", Spending(len(self.states)))

    @cached_property
    def own(self) -> Tensor:
        """``[B, L, E]`` ω0."""
        return self._own.own

    @cached_property
    def used(self) -> Tensor:
        """``[B, L, E]`` bool, experts that the model used."""
        return torch.stack([s.own for s in self.states]) > 0

    @cached_property
    def _own(self) -> Pathway:
        s = self.settings
        whole = own_pathway(self.states, self.model.layers, s.scope, s.pathway)
        top_k = self.model.sites[0].top_k if s.mix == "top-k" and s.pathway == "weights" else None
        return replace(whole, top_k=top_k)

    def pathway(self, weights: Tensor) -> Pathway:
        """ω ``[B, L, E]`` of the samples, as an answer follows it."""
        return replace(self._own, router=weights)

    def changeable(self, chosen: Tensor) -> Tensor:
        """As ``Problem.changeable``."""
        return chosen | self.used if self.settings.pathway == "weights" else chosen

    def problem(self, *, labeled: bool = False, told: bool = False, selection: Selection | None = None) -> Problem:
        """The problem before or after layers are chosen; what its losses take is of the phase that it is made in.

        Args:
            labeled: with the labels.
            told: with the truth of the fault that was planted in the model.
            selection: of layers and experts.

        Raises:
            DataError: a label is not known.
            SettingError: the model has no known fault.
        """
        losses = Losses(self, selection, self.spending.open(self.clock.phase))
        known = {name: _copied(value) for name, value in (self._known | {"selection": selection}).items()}
        known["reference_pathways"] = self._reference_pathways
        known |= {"loss": losses.neighbourhood, "scores": losses.scores, "of_neighbours": self._of_neighbours}
        known["within"] = lambda chosen: self.problem(labeled=labeled, told=told, selection=chosen)
        known["truth"] = self._truth if told else None
        if not labeled:
            return Problem(**known)
        return LabeledProblem(
            **known, label_loss=losses.label, answers=torch.tensor(self._answers()), answered=self._answered
        )

    @contextmanager
    def unchanged(self) -> Iterator[None]:
        """Around what runs the model: it has to be the one that the samples were run on.

        Raises:
            DataError: it was changed since.
        """
        with self.model.answering():
            if self.model.snapshot is not self._of:
                raise DataError(
                    "Expected the model as it was when the problem was made, got one that was changed since; make the "
                    "problem anew."
                )
            yield

    @property
    def _truth(self) -> FaultTruth:
        return cast(FaultTruth, self.model.known_fault.truth(self.model, self.states, self.settings.pathway))

    @cached_property
    def _reference_pathways(self) -> Tensor:
        """Of all candidates: one copy a batch, which may be large."""
        if self.candidates is None:
            return self.own.new_zeros(0, *self.own.shape[1:])
        dense = self.settings.pathway == "router"
        return (self.candidates.routers if dense else self.candidates.pathways).clone()

    @cached_property
    def _known(self) -> dict[str, Any]:
        """What does not depend on the selection, as large as the batch."""
        own, near, pathways = self.own, self.neighbours.index >= 0, self._reference_pathways
        found = own.new_zeros(*near.shape, *own.shape[1:])
        found[near] = pathways[self.neighbours.index[near]]
        seeds = [draw_key(self.settings.seed, s.prompt) for s in self.states]
        return {
            "own": own,
            "used": self.used,
            "kind": self.settings.pathway,
            "router": torch.stack([s.router for s in self.states]),
            "router_input": torch.stack([s.router_input for s in self.states]),
            "layers": self.model.layers,
            "neighbours": self.neighbours,
            "neighbour_pathways": found,
            "own_scores": pad_sequence(self.model.choice_scores(self.states), True, -torch.inf),
            "generators": tuple(torch.Generator().manual_seed(seed) for seed in seeds),
            "excluded": self.excluded,
        }

    @torch.no_grad()
    def _answered(self, weights: Tensor) -> Tensor:
        tails = self.model.tail_scores(self.states, self.pathway(weights))
        with self.unchanged():
            chosen = tails(weights).argmax(-1)
        self.spending.answering(tails.spent)
        return chosen

    def _answers(self) -> list[int]:
        answers = [None] if self.questions is None else [q.answer for q in self.questions]
        if any(a is None for a in answers):
            raise DataError(
                "An upper bound expected the answer of every question, got none for some; give labeled questions."
            )
        return [a for a in answers if a is not None]

    # -- neighbours ------------------------------------------------------------------------------------------------

    @cached_property
    def pairs(self) -> Tensor:
        """``[P, 2]`` sample and place of each neighbour that has weight."""
        return (self.neighbours.weight > 0).nonzero()

    @cached_property
    def prompts(self) -> list[Prompt]:
        """Of the neighbours, pair by pair."""
        return [self._prompt(q) for q in self._asked]

    @cached_property
    def answers(self) -> Tensor:
        """``[P]`` right choices of the neighbours."""
        return torch.tensor([q.answer for q in self._asked], dtype=torch.long)

    @cached_property
    def _asked(self) -> list[Question]:
        if self.candidates is None:
            return []
        rows = self.neighbours.index[self.pairs[:, 0], self.pairs[:, 1]].tolist()
        return [self.candidates.questions[r] for r in rows]

    @cached_property
    def near(self) -> Sequence[State]:
        """The neighbours, run when a loss first needs them."""
        with self.clock("references"):
            return self._run(self.prompts)

    @property
    def _run(self) -> States:
        """From references' prompts to their states."""
        if self.store is not None:
            return self.store.states
        return partial(self.model.prefill, scope=self.settings.scope)

    def _of_neighbours(self, artifact: ReferenceArtifact) -> Tensor:
        """``[B, K, …]`` what every neighbour teaches by itself, zeros where there is none."""
        near = self.neighbours.weight > 0
        rows, place = self.neighbours.index[near].unique(return_inverse=True)  # many samples share a neighbour
        if self.candidates is None:
            raise SettingError(
                f"Expected neighbours that {artifact.name} is of, got a selector and an optimizer that need none; set "
                "needs_neighbours to True where it is asked for."
            )
        teach = partial(self._each, self.candidates) if self.teach is None else self.teach
        with self.unchanged():
            each = teach(artifact, rows.tolist() or [0])  # where there is no neighbour at all, one tells the shape
        found = each.new_zeros(*near.shape, *each.shape[1:])
        found[near] = each[place]
        return found

    def _each(self, candidates: ReferenceSet, artifact: ReferenceArtifact, rows: Sequence[int]) -> Tensor:
        """Of some candidates, put by the format alone."""
        where, folder = (self._run, self.settings), candidates.artifacts_folder
        asked = self._labeled(candidates, rows)
        each = of_references(artifact, self.model, *asked, *where, folder=folder, progress=bar)
        if artifact.name not in self.learned_from:
            spread = range(0, len(candidates), -(-len(candidates) // SAMPLE))  # a pool has parts
            some = self._labeled(candidates, spread)
            mean = mean_flops(artifact, self.model, *some, *where, folder=folder)
            self.learned_from[artifact.name] = mean * len(candidates)
        return each

    def _labeled(self, candidates: ReferenceSet, rows: Sequence[int]) -> tuple[list[Prompt], list[int]]:
        """Prompts and right choices of some of them."""
        asked = [candidates.questions[row] for row in rows]
        return [self._prompt(q) for q in asked], [cast(int, q.answer) for q in asked]

    def _prompt(self, question: Question) -> Prompt:
        return self.model.encode(question, self.format)

    # -- what it takes ---------------------------------------------------------------------------------------------

    def ledgers(self, embedded: Sequence[float]) -> list[Ledger]:
        """Of each sample, up to the answer; ``embedded``: FLOPs of embedding it."""
        seconds = self.clock.seconds
        spent = {
            "retrieval": [Entry()] * len(self.states),
            **{phase: self.spending.of(phase) for phase in self.spending.phases},
            "embedding": [Entry(forward=Work(linear=flops)) for flops in embedded],
            "references": [a + b for a, b in zip(self._prefilled, self.spending.prepared, strict=True)],
        }
        return [
            Ledger(state.work, **{phase: entries[b].lasting(seconds[phase]) for phase, entries in spent.items()})
            for b, state in enumerate(self.states)
        ]

    @property
    def _prefilled(self) -> list[Entry]:
        """What each sample's neighbours took, in full even if they were cached; nothing if no loss looked at them."""
        mine: list[list[Entry]] = [[] for _ in self.states]
        if any(looked := self.spending.looked_at):  # then the neighbours were run
            for b, state in zip(self.pairs[:, 0].tolist(), self.near, strict=True):
                mine[b] += [state.work] if looked[b] else []
        return [summed(entries) for entries in mine]


def _copied(value: Any) -> Any:
    """For strategies to read: what they write into it stays without effect for others, later arms included."""
    if isinstance(value, Neighbours):
        return Neighbours(*map(torch.clone, (value.index, value.similarity, value.weight)))
    if isinstance(value, Selection):
        return replace(value, mask=value.mask.clone())
    return value.clone() if isinstance(value, Tensor) else value


class Losses:
    """The losses of one problem: with every layer acting (selection None), or the selected ones."""

    def __init__(self, batch: SampleBatch, selection: Selection | None, used: Used) -> None:
        self.batch = batch
        everywhere = torch.ones(batch.own.shape[:2], dtype=torch.bool)
        self._active = everywhere if selection is None else selection.layers
        self._support = None if selection is None else batch.changeable(selection.mask)
        self._used = used

    def neighbourhood(self, weights: Tensor, running: Tensor | None = None) -> Tensor:
        b = self.batch
        if b.candidates is None:
            raise SettingError(
                "Expected neighbours to take the loss of, got an optimizer and a selector that need none; name others, "
                "or attribute something else."
            )
        if not b.prompts:
            return (weights * 0).sum((1, 2))
        with b.unchanged():
            losses = right_answer_loss(self._near(weights, running), b.answers, b.settings.loss)
        share = b.neighbours.weight[b.pairs[:, 0], b.pairs[:, 1]]
        return losses.new_zeros(len(b.states)).index_add(0, b.pairs[:, 0], share * losses)

    def scores(self, weights: Tensor, running: Tensor | None = None) -> Tensor:
        if not all(s.prompt.options for s in self.batch.states):
            raise SettingError("Expected questions with choices to score, got raw text; give choices.")
        with self.batch.unchanged():
            return self._mine(weights, running)

    def label(self, weights: Tensor, running: Tensor | None = None) -> Tensor:
        answers = torch.tensor(self.batch._answers())
        with self.batch.unchanged():
            return right_answer_loss(self._mine(weights, running), answers, self.batch.settings.loss)

    @property
    def _near(self) -> TailScores:
        """Of the neighbours, from when their loss is first asked for."""
        b = self.batch
        if NEAR not in self._used:
            head = b.model.head_for(b.settings.head)
            self._used[NEAR] = self._tails(b.near, b.pairs[:, 0], b.settings.transfer, head)
        return self._used[NEAR]

    @property
    def _mine(self) -> TailScores:
        """Of the samples themselves, likewise."""
        states = self.batch.states
        if MINE not in self._used:
            self._used[MINE] = self._tails(states, torch.arange(len(states)), "replace", "full")
        return self._used[MINE]

    def _tails(self, tails: Sequence[State], sample: Tensor, transfer: Transfer, head: Head) -> TailScores:
        b = self.batch
        return TailScores(
            b.model.model,
            b.model.sites,
            b.model.flops,
            tails,
            sample,
            b.own,
            self._active,
            self._support,
            b.settings.scope,
            transfer,
            gradient=b.settings.gradient if b.settings.pathway == "router" else None,
            head=head,
            relative=b.model.letters_alone and b.settings.loss != "likelihood",
        )
