"""What a selector or an optimizer may look at: a batch of samples, their neighbours, and differentiable losses.

A ``Problem`` never holds a test label. Upper bounds ask for ``LabeledProblem`` by name.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any, Protocol, cast

from ._printed import in_brief
from .errors import LabelError
from .losses import entropy, margin
from .types import Neighbours, PathwayKind, Selection

if TYPE_CHECKING:
    from torch import Generator, Tensor


def label_refused() -> LabelError:
    """What a strategy is told that asks for a label it is not to know."""
    return LabelError(
        "Expected a strategy that does not know the label, got one that looked at the right answer; use problem.loss "
        "(the neighbors') or problem.scores, or say needs_label for an upper bound."
    )


class Loss(Protocol):
    """One loss a sample, differentiable in the pathways."""

    def __call__(self, weights: Tensor, running: Tensor | None = None) -> Tensor:
        """``[B]`` of ``weights [B, L, E]``.

        Args:
            running: ``[B]`` bool, samples that are computed; those that stopped cost nothing, and their loss is that of
                no pathway in particular. None: all.
        """


class Scores(Protocol):
    """The scores of each sample's own choices, differentiable in the pathways."""

    def __call__(self, weights: Tensor, running: Tensor | None = None) -> Tensor:
        """``[B, C]`` of ``weights [B, L, E]``, -inf where a sample has fewer choices; ``running`` as in ``Loss``.

        Raises:
            SettingError: the samples are raw texts, without choices.
        """


@dataclass(frozen=True, eq=False)
class ReferenceBatch:
    """N labeled references, each by itself: what a ``ReferenceArtifact`` is computed from.

    Attributes:
        own: ``[N, L, E]`` the model's own pathway of each reference.
        used: ``[N, L, E]`` bool, experts that the model used.
        kind: what a pathway is.
        router: ``[N, L, E]`` how much the router makes of each expert, rows summing to one.
        router_input: ``[N, L, H]`` the hidden state that each layer's router reads at the prompt's last token.
        movable: ``[N, L, E]`` bool, experts that weight can be put on: all but what a router chooses to skip a layer.
        hidden: ``[N, H]`` final hidden state at the prompt's last token.
        answers: ``[N]`` the right choices.
        own_scores: ``[N, C]`` of each reference's choices along ω0, as a question's are; -inf where it has fewer.
        own_loss: ``[N]`` of each reference's right choice along ω0; like own_scores it takes no pass.
        scores: of each reference's choices, along the pathway that is put into it.
        loss: of each reference's right choice, exactly.
        cheap_loss: the same as questions descend it, with the head that the settings say.
    """

    own: Tensor
    used: Tensor
    kind: PathwayKind
    router: Tensor
    router_input: Tensor
    movable: Tensor
    hidden: Tensor
    answers: Tensor
    own_scores: Tensor
    own_loss: Tensor
    scores: Scores
    loss: Loss
    cheap_loss: Loss
    __repr__ = in_brief

    @property
    def ranking(self) -> Tensor:
        """``[N, L, E]`` ranks the core experts, as ``Problem.ranking`` does."""
        return self.router + self.used


def changeable(of: ReferenceBatch | Problem, chosen: Tensor) -> Tensor:
    """As ``Problem.changeable``."""
    return chosen | of.used if of.kind == "weights" else chosen


@dataclass(frozen=True)
class ReferenceArtifact:
    """What a reference teaches by itself, whatever is asked later: computed once for a model, and stored with the set.

    Attributes:
        name: with all parameters in it; what is stored belongs to this name, the model, the settings that
            ``ReferenceBatch.loss`` depends on, and the text of the file that ``compute`` is defined in.
        compute: ``ReferenceBatch -> [N, …]``, row by row: a reference's row must not depend on the others. Make the
            artifact once, not in each call: a function that was typed into a notebook is identified by itself.
    """

    name: str
    compute: Callable[[ReferenceBatch], Tensor]


@dataclass(frozen=True, eq=False)
class FaultTruth:
    """What a planted fault did to B samples, which nobody knows of a model that was not broken on purpose.

    Attributes:
        broken: ``[L]`` bool, layers whose routers were changed.
        sound: ``[B, L, E]`` ω0 as the sound routers would have it behind the prompt as it was read; in layers that are
            not broken, and where they choose as the faulty ones do, ω0 itself.
    """

    broken: Tensor
    sound: Tensor
    __repr__ = in_brief


@dataclass(frozen=True, eq=False)
class Problem:
    """B samples to be re-mixed together.

    Attributes:
        own: ``[B, L, E]`` the model's own pathway ω0 of each sample.
        used: ``[B, L, E]`` bool, experts that the model used.
        kind: what a pathway is: a router's distribution, or the weights that are mixed.
        router: ``[B, L, E]`` how much the router makes of each expert, rows summing to one.
        router_input: ``[B, L, H]`` the hidden state that each layer's router reads at the prompt's last token.
        layers: decoder layer index of each of the L rows.
        neighbours: retrieved references with their kernel weights.
        neighbour_pathways: ``[B, K, L, E]`` the references' own pathways (zeros where padded).
        reference_pathways: ``[M, L, E]`` of all references that are learned from, for search in pathway space.
        loss: the kernel-weighted loss of the neighbours when the sample's ω is put into
            their forward passes (C3PO, eq. of NGD); zero for a sample without neighbours.
        scores: of the sample's own choices, whichever of them is right.
        own_scores: ``[B, C]`` those along ω0, known from the prefill; -inf where a sample has fewer.
        of_neighbours: ``ReferenceArtifact -> [B, K, …]``, what each neighbour teaches by itself (zeros where padded);
            computed once a reference, and stored with the set.
        generators: one a sample, the only source of randomness: what is drawn does not depend on the batch.
        within: the same problem with a selection, whose losses run no more of the model than it needs: the tails from
            the first selected layer on.
        selection: what may be re-mixed; None while it is being chosen.
        excluded: for each sample, rows of ``reference_pathways`` that it must not see (near-duplicates, or itself);
            None for an optimizer that does not say ``searches_pathways``, which must not look at those pathways.
        choices: the texts of each sample's choices, where they are known: for attribution by hand.
        truth: of a planted fault; None but for strategies that say ``needs_truth``.
    """

    own: Tensor
    used: Tensor
    kind: PathwayKind
    router: Tensor
    router_input: Tensor
    layers: tuple[int, ...]
    neighbours: Neighbours
    neighbour_pathways: Tensor
    reference_pathways: Tensor
    loss: Loss
    scores: Scores
    own_scores: Tensor
    of_neighbours: Callable[[ReferenceArtifact], Tensor]
    generators: tuple[Generator, ...]
    within: Callable[[Selection], Problem]
    selection: Selection | None = None
    excluded: tuple[frozenset[int], ...] | None = ()
    choices: tuple[tuple[str, ...], ...] = ()
    truth: FaultTruth | None = None

    if not TYPE_CHECKING:  # a type checker names unknown attributes by itself

        def __getattr__(self, name: str) -> Any:
            if name in ("label_loss", "answers", "answered"):
                raise label_refused()
            raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}", name=name, obj=self)

    @property
    def ranking(self) -> Tensor:
        """``[B, L, E]`` ranks the core experts: those that the model uses first, then the router's order.

        The two differ where a bias or a group limit has its say in the choice (DeepSeek-V3).
        """
        return self.router + self.used

    def changeable(self, chosen: Tensor) -> Tensor:
        """``[B, L, E]`` bool, experts that may change where those of ``chosen [B, L, E]`` (bool) are to be re-mixed:
        they, and, where ω is weights, those that the model used, which give or take what the others get.
        """
        return changeable(self, chosen)

    def core(self, n: int | None) -> Tensor:
        """``[B, L, E]`` bool: the n core experts of each layer; None is all, and so is the paper's 20 of fewer."""
        from .routing.mixing import core, core_size

        return core(self.ranking, core_size(n, self.own.shape[-1]))

    def __repr__(self) -> str:
        """Without the tensors, which fill a screen."""
        return f"{type(self).__name__}(own {list(self.own.shape)}, neighbours {list(self.neighbours.index.shape)})"

    def entropy(self, weights: Tensor, running: Tensor | None = None) -> Tensor:
        """``[B]`` entropy in nats of each sample's own distribution over its choices, a ``Loss``."""
        return entropy(self.scores(weights, running))

    def margin(self, weights: Tensor, running: Tensor | None = None) -> Tensor:
        """``[B]`` by how much log-likelihood the best of each sample's choices along ω0 leads the second, a ``Loss``.

        The two stay the same whatever the weights, so a margin below zero says that they have changed places.
        """
        return margin(self.scores(weights, running), self.own_scores)


@dataclass(frozen=True, eq=False, kw_only=True, repr=False)
class LabeledProblem(Problem):
    """A problem that also knows the labels, for upper bounds, and for references that a strategy learns from.

    Attributes:
        label_loss: the loss of each sample's own right answer.
        answers: ``[B]`` the right choices.
        answered: ``weights [B, L, E] -> [B]``, the choices that the run would give along them.
    """

    label_loss: Loss
    answers: Tensor
    answered: Callable[[Tensor], Tensor]

    def unlabeled(self) -> Problem:
        """What a method may look at."""
        known = {field.name: getattr(self, field.name) for field in fields(Problem)}
        within = {"within": lambda chosen: cast(LabeledProblem, self.within(chosen)).unlabeled()}
        return Problem(**known | within | {"truth": None})


class TrainingReferences(Protocol):
    """Labeled references to learn from, answered right or wrong; each asked as a test question is, and without itself
    among its neighbours.
    """

    @property
    def optimizer(self) -> Any:
        """The ``PathwayOptimizer`` that re-mixes what a selector chooses."""

    @property
    def known(self) -> int:
        """How many there are that are not asked in the run."""

    def problems(self, n: int, skip: int = 0) -> Iterator[LabeledProblem]:
        """``n`` of them in batches, drawn at random, after ``skip`` others that something else learned from.

        Raises:
            SettingError: there are fewer.
        """

    def of_references(self, artifact: ReferenceArtifact) -> Tensor:
        """``[M, …]`` what each reference that may be a neighbour teaches by itself, as ``Problem.of_neighbours`` gives
        it; not those that are asked in the run, nor those that the other role draws to learn from.

        Raises:
            SettingError: none is left.
        """

    def once(self, learner: Any, learn: Callable[[], dict[str, Tensor]]) -> dict[str, Tensor]:
        """What ``learn`` finds, stored beside the set for the next time that the same ``learner`` asks."""
