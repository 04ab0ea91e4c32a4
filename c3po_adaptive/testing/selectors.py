"""The contract of layer selectors."""

from __future__ import annotations

from contextlib import suppress
from typing import Any, ClassVar
from unittest import SkipTest

import torch
from torch import Tensor

from ..errors import SettingError
from ..problem import Problem
from ..selectors.base import LayerSelector
from ..selectors.scored import ScoredLayers
from ..types import Selection
from .contract import Contract, check_identity, expect, not_for
from .optimizers import UPPER_BOUND, check_untouched, sealed, without_neighbours
from .toy import tensors, toy_problem


class SelectorContract(Contract):
    """Supply a fixture ``selector``, after ``prepare`` if it learns. The toy has L = 6 layers, E = 24 experts."""

    role: ClassVar[str] = "selector"
    first: ClassVar[str] = "test_mask"
    size: tuple[int, int] = (6, 24)
    """Layers and experts of the toy: more for a selector that is set to take more."""

    def make_problem(self, selector: LayerSelector, **changes: Any) -> Problem:
        """The toy that this suite is run on, with a sample without neighbours."""
        toy: dict[str, Any] = {"L": self.size[0], "E": self.size[1], "selected": None, "alone": [1]}
        return toy_problem(**toy | {"labeled": selector.needs_label, "told": selector.needs_truth} | changes)

    def test_identity(self, selector: LayerSelector) -> None:
        """Name and parameters identify a run.

        Make it a frozen dataclass with ``name: ClassVar[str]`` in kebab case, and parameters that JSON can hold; what
        it learned is a field with ``repr=False``.
        """
        check_identity("selector", selector)

    def test_mask(self, selector: LayerSelector) -> None:
        """It returns a ``Selection`` whose mask ``[B, L, E]`` is bool.

        ``Selection(mask)`` with ``mask`` of ``problem.own.shape``; a subclass of ``ScoredLayers`` only scores layers.
        """
        problem = self.make_problem(selector)
        selection = selector.select(problem)
        expect(isinstance(selection, Selection), "a Selection", type(selection).__name__)
        mask = selection.mask
        expect(mask.dtype == torch.bool, "a mask of dtype bool", mask.dtype)
        expect(mask.shape == problem.own.shape, f"a mask (B, L, E) = {tuple(problem.own.shape)}", tuple(mask.shape))
        expect(mask.device == problem.own.device, f"a mask on {problem.own.device}", mask.device)

    def test_scores(self, selector: LayerSelector) -> None:
        """Scores, if it gives any, are ``[B, L]``, without NaN and without a graph.

        ``.detach()`` them; a sample without neighbours has scores, too: zero, for example.
        """
        problem = self.make_problem(selector)
        scores = selector.select(problem).scores
        if scores is None:
            raise SkipTest("chooses without scores")
        expect(isinstance(scores, Tensor), "scores as a tensor", type(scores).__name__)
        shape = problem.own.shape[:2]
        expect(scores.shape == shape, f"scores of shape (B, L) = {tuple(shape)}", tuple(scores.shape))
        expect(not scores.isnan().any(), "scores of every layer", "NaN among them")
        expect(not scores.requires_grad, "scores without a graph", "some that require a gradient")

    def test_scores_of_experts(self, selector: LayerSelector) -> None:
        """Scores of experts, if it gives any, are ``[B, L, E]``, without NaN for any of them, and without a graph.

        Look for 0/0 and log(0) where an expert has no weight: among others NaN would count as the best.
        """
        not_for(isinstance(selector, ScoredLayers), "scores no layers")
        problem = self.make_problem(selector)
        each = selector.score(problem)[1]  # type: ignore[attr-defined]
        not_for(each is not None, "scores no experts")
        expect(each.shape == problem.own.shape, f"scores (B, L, E) = {tuple(problem.own.shape)}", tuple(each.shape))
        expect(not each.isnan().any(), "scores of every expert", "NaN among them")
        expect(not each.requires_grad, "scores without a graph", "some that require a gradient")

    def test_more_wanted_than_there_is(self, selector: LayerSelector) -> None:
        """A model with one layer of four experts is taken as it is, or refused with a ``SettingError``.

        Check sizes in ``fits(layers, experts)`` and ``select``.
        """
        problem = self.make_problem(selector, L=1, E=4, top_k=2, core=2)
        with suppress(SettingError):  # to take what there is, or to say so, are both right
            shape = selector.select(problem).mask.shape
            expect(shape == (3, 1, 4), "a mask (B, L, E) = (3, 1, 4)", tuple(shape))

    def test_deterministic(self, selector: LayerSelector) -> None:
        """The same problem gives the same selection.

        Draw from ``problem.generators`` (one a sample, seeded) alone, and keep nothing from one call to the next.
        """
        one, other = (selector.select(self.make_problem(selector)) for _ in range(2))
        expect(torch.equal(one.mask, other.mask), "the same mask twice", "another")

    def test_batch_equals_one_by_one(self, selector: LayerSelector) -> None:
        """A sample's selection does not depend on the others of its batch.

        Reduce over layers and experts, never over dimension 0; draw for sample b from ``problem.generators[b]``.
        """
        batch = selector.select(self.make_problem(selector))
        for b in range(len(batch.mask)):
            one = selector.select(self.make_problem(selector, only=b))
            expect(torch.equal(batch.mask[b : b + 1], one.mask), f"sample {b} alone as in its batch", "another mask")

    def test_inputs_untouched(self, selector: LayerSelector) -> None:
        """The problem's tensors are read, never written.

        ``.clone()`` before in-place operations (those whose names end with ``_``).
        """
        problem = self.make_problem(selector)
        before = tensors(problem)
        selector.select(problem)
        check_untouched(before, problem)

    def test_does_not_look_at_the_label(self, selector: LayerSelector) -> None:
        """It never asks for the right answer.

        Use ``problem.loss`` and ``problem.scores``; an upper bound says ``needs_label: ClassVar[bool] = True``.
        """
        not_for(not selector.needs_label, UPPER_BOUND)
        found = selector.select(sealed(self.make_problem(selector))).mask
        same = torch.equal(found, selector.select(self.make_problem(selector)).mask)
        expect(same, "the same mask whether a label is known or not", "another")

    def test_asks_for_the_neighbours_that_it_looks_at(self, selector: LayerSelector) -> None:
        """With ``needs_neighbours = False`` it never looks at neighbours, nor at their loss: it may get none.

        Say ``needs_neighbours: ClassVar[bool] = True``, or use ``problem.entropy`` and ``problem.margin``.
        """
        not_for(not selector.needs_neighbours, "asks for neighbours")
        found = selector.select(without_neighbours(self.make_problem(selector))).mask
        same = torch.equal(found, selector.select(self.make_problem(selector)).mask)
        expect(same, "the same mask whether there are neighbours or not", "another")
