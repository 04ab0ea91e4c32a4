"""A problem whose losses are quadratics of the weights: no model, and a minimum that is known."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass, field, fields, replace
from typing import Any, cast

import numpy as np
import torch
from torch import Generator, Tensor

from ..errors import ShapeError
from ..kernels.base import Array, ReferenceFeatures
from ..optimizers.base import PathwayOptimizer
from ..optimizers.ngd import NGD
from ..problem import FaultTruth, LabeledProblem, Loss, Problem, ReferenceArtifact, ReferenceBatch
from ..types import Neighbours, PathwayKind, Selection


def toy_problem(
    B: int = 3,
    L: int = 6,
    E: int = 24,
    K: int = 3,
    seed: int = 0,
    *,
    top_k: int = 4,
    core: int = 8,
    references: int = 10,
    selected: Collection[int] | None = (),
    alone: Collection[int] = (),
    only: int | None = None,
    labeled: bool = False,
    told: bool = False,
    kind: PathwayKind = "weights",
) -> Problem:
    """B samples of L layers of E experts, of which the model uses ``top_k`` without renormalizing them.

    ``loss`` is half the squared distance to the neighbours' pathways, weighted as they are; ``label_loss`` is half the
    squared distance to a hidden pathway, and the scores of three choices are minus that to one of each. References by
    themselves start from the samples' mean pathway; their right choice is their own, which their loss is lowest at.

    Args:
        B: how many samples there are.
        L: how many layers each of them has.
        E: how many experts each layer has.
        K: how many neighbours each sample has.
        seed: settles every number, and the problem's generators.
        top_k: how many experts of each layer the model uses, the first by router probability.
        core: how many experts of a selected layer may be re-mixed, the first by router probability.
        references: how many reference pathways there are.
        selected: which of the L rows may be re-mixed; by default the last two, None for a problem without selection.
        alone: samples without any neighbour.
        only: keep this sample alone, with the numbers that it has in the batch.
        labeled: add the label's loss, which makes it a ``LabeledProblem``.
        told: add the truth of a fault: experts of the last two layers, exchanged with their neighbours.
        kind: what pathways are; as router distributions those of all experts count, the unused ones', too.
    """
    source = Generator().manual_seed(seed)
    part = slice(None) if only is None else slice(only, only + 1)

    def pathways(*shape: int) -> tuple[Tensor, Tensor]:
        router = (2 * torch.randn(*shape, E, generator=source)).softmax(-1)
        return router, router if kind == "router" else router * _used(router, top_k)

    router, own = pathways(B, L)
    known = pathways(references, L)[1]
    hidden = [pathways(B, L)[1] for _ in range(2)]
    index = torch.stack([torch.randperm(references, generator=source)[:K] for _ in range(B)])
    similarity = torch.rand(B, K, generator=source).sort(-1, descending=True).values
    weight = similarity / similarity.sum(-1, keepdim=True)
    hidden += [pathways(B, L)[1] for _ in range(2)]
    near = known[index]
    for b in alone:
        index[b], similarity[b], weight[b], near[b] = -1, 0.0, 0.0, 0.0

    def quadratic(goal: Tensor, shares: Tensor) -> Loss:
        """Half the squared distance to ``goal [B, K, L, E]``, by ``shares [B, K]``."""

        def loss(weights: Tensor, running: Tensor | None = None) -> Tensor:
            if weights.shape != goal[:, 0].shape:
                raise ShapeError(
                    f"Expected weights of shape (B, L, E) = {tuple(goal[:, 0].shape)}, got {tuple(weights.shape)}; "
                    "pass all samples of the batch together."
                )
            values = (0.5 * (weights[:, None] - goal).square().sum((-1, -2)) * shares).sum(-1)
            return values if running is None else values * running

        return loss

    mask: Tensor | None = None
    if selected is not None:
        rows = torch.tensor([row in (selected or (L - 2, L - 1)) for row in range(L)])
        mask = torch.zeros_like(router).scatter(-1, router.topk(core, -1).indices, 1.0).bool() & rows[:, None]
    single = torch.ones(B, 1)[part]
    label_loss, *distances = (quadratic(goal[part, None], single) for goal in hidden)

    def scores(weights: Tensor, running: Tensor | None = None) -> Tensor:
        return -torch.stack([distance(weights, running) for distance in distances], 1)

    hidden_state = torch.randn(references, 8, generator=source)
    read, read_by_references = (torch.randn(count, L, 8, generator=source) for count in (B, references))
    middle = own.mean(0).expand_as(known)  # where the references start, whatever ``only`` says

    def of_neighbours(artifact: ReferenceArtifact) -> Tensor:
        each = artifact.compute(
            ReferenceBatch(
                own=middle,
                used=middle > 0 if kind == "weights" else _used(middle, top_k),
                kind=kind,
                router=router.mean(0).expand_as(known),
                router_input=read_by_references,
                movable=torch.ones_like(known, dtype=torch.bool),
                hidden=hidden_state,
                answers=torch.zeros(references, dtype=torch.long),
                own_scores=-distance_to_each(middle),
                own_loss=distance_to_each(middle)[:, 0],
                scores=lambda weights, running=None: -distance_to_each(weights, running),
                loss=lambda weights, running=None: distance_to_each(weights, running)[:, 0],
                cheap_loss=lambda weights, running=None: distance_to_each(weights, running)[:, 0],
            )
        )
        there = (index >= 0).view(*index.shape, *[1] * (each.ndim - 1))
        return (each[index] * there)[part]

    def distance_to_each(weights: Tensor, running: Tensor | None = None) -> Tensor:
        goals = torch.stack([known, known.roll(1, 0), known.roll(2, 0)], 1)
        found = 0.5 * (weights[:, None] - goals).square().sum((-1, -2))
        return found if running is None else found * running[:, None]

    made: Problem = Problem(
        own=own[part],
        used=_used(router, top_k)[part],
        kind=kind,
        router=router[part],
        router_input=read[part],
        layers=tuple(range(2, 2 + L)),  # as if the first two decoder layers were dense
        neighbours=Neighbours(index[part], similarity[part], weight[part]),
        neighbour_pathways=near[part],
        reference_pathways=known,
        loss=quadratic(near[part], weight[part]),
        scores=scores,
        own_scores=scores(own[part]),
        of_neighbours=of_neighbours,
        generators=tuple(Generator().manual_seed(seed + b) for b in range(B)[part]),
        within=lambda selection: made,
        selection=None if mask is None else Selection(mask[part]),
        truth=_exchanged(own[part]) if told else None,
    )
    if labeled:
        made = LabeledProblem(
            **{f.name: getattr(made, f.name) for f in fields(Problem)},
            label_loss=label_loss,
            answers=torch.arange(B)[part] % 3,
            answered=lambda weights: scores(weights).argmax(-1),
        )
    return altered(made)


def _used(router: Tensor, top_k: int) -> Tensor:
    """``[..., E]`` bool."""
    return torch.zeros_like(router, dtype=torch.bool).scatter(-1, router.topk(top_k, -1).indices, True)


def _exchanged(own: Tensor) -> FaultTruth:
    sound = own.clone()
    sound[:, -2:] = own[:, -2:].unflatten(-1, (-1, 2)).flip(-1).flatten(-2)
    broken = torch.arange(own.shape[1]) >= own.shape[1] - 2
    return FaultTruth(broken, sound)


def altered(problem: Problem, **changes: Any) -> Problem:
    """The same problem with other parts, within any selection, too."""
    made = replace(problem, **changes)
    return replace(made, within=lambda selection: altered(made, selection=selection))


@dataclass(frozen=True)
class ToyTraining:
    """References that are toys, for strategies that learn; a ``TrainingReferences``.

    Attributes:
        optimizer: re-mixes what a selector chooses.
        size: layers and experts.
        known: how many there are.
        made: changes each batch's problem.
        kept: what each learner learned.
    """

    optimizer: PathwayOptimizer = field(default_factory=lambda: NGD(steps=3, lr=0.05))
    size: tuple[int, int] = (6, 24)
    known: int = 100
    made: Callable[[LabeledProblem], LabeledProblem] = lambda problem: problem
    kept: dict[str, dict[str, Tensor]] = field(default_factory=dict)

    def problems(self, n: int, skip: int = 0) -> Iterator[LabeledProblem]:
        for i in range(skip, skip + n, 10):
            B, (L, E) = min(10, skip + n - i), self.size
            toy = toy_problem(B, L, E, seed=100 + i, selected=None, labeled=True)
            yield self.made(cast(LabeledProblem, toy))

    def of_references(self, artifact: ReferenceArtifact) -> Tensor:
        return toy_problem(1, *self.size, K=10, references=10, seed=100).of_neighbours(artifact)[0]

    def once(self, learner: Any, learn: Callable[[], dict[str, Tensor]]) -> dict[str, Tensor]:
        if repr(learner) not in self.kept:
            self.kept[repr(learner)] = learn()
        return self.kept[repr(learner)]


def toy_references(width: int, n: int = 60, seed: int = 0, *, told: bool = True) -> ReferenceFeatures:
    """References of two kinds that want opposite changes, for kernels and retrievers that learn.

    Args:
        width: numbers known of each: one of the pathway, one of the form, all others of the state.
        n: how many references.
        seed: settles every number.
        told: whether the state's first number tells the kind.
    """
    drawn = np.random.default_rng(seed)
    kind = drawn.choice([-1.0, 1.0], n)
    known = 0.3 * drawn.normal(size=(n, width))
    known[:, 0] += kind if told else drawn.choice([-1.0, 1.0], n)
    gradients = drawn.normal(size=(n, 2, 6))
    gradients[:, 0] += kind[:, None] * np.linspace(-3, 3, 6)
    return ReferenceFeatures(known, toy_parts(known), gradients - gradients.mean(-1, keepdims=True))


def toy_parts(known: Array) -> dict[str, Array]:
    """What is known of toys, ``[N, F]``, by part, as ``QuestionFeatures`` has it."""
    return {"state": known[:, :-2], "pathway": known[:, -2:-1], "form": known[:, -1:]}


def tensors(problem: Problem) -> dict[str, Tensor]:
    """Copies of all that a strategy could alter by accident."""
    alone = ("own", "used", "router", "router_input", "neighbour_pathways", "reference_pathways")
    found = {name: getattr(problem, name) for name in alone}
    found |= {name: getattr(problem.neighbours, name) for name in ("index", "similarity", "weight")}
    if problem.selection is not None:
        found["mask"] = problem.selection.mask
    return {name: tensor.clone() for name, tensor in found.items()}
