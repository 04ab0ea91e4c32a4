"""The contract of layer selectors."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

import pytest
import torch

from ..errors import SettingError
from ..problem import Problem
from ..selectors.base import LayerSelector
from .contract import Contract, check_identity
from .optimizers import sealed
from .toy import tensors, toy_problem


class SelectorContract(Contract):
    """Supply a fixture ``selector``."""

    @pytest.fixture
    def problem(self, selector: LayerSelector) -> Problem:
        return self.make_problem(selector)

    def make_problem(self, selector: LayerSelector, **changes: Any) -> Problem:
        """The toy that this suite is run on: six layers of 24 experts, and a sample without neighbours."""
        return toy_problem(**{"selected": None, "alone": [1], "labeled": selector.needs_label} | changes)

    def test_identity(self, selector: LayerSelector) -> None:
        check_identity("selector", selector)

    def test_mask(self, selector: LayerSelector, problem: Problem) -> None:
        selection = selector.select(problem)
        assert selection.mask.dtype == torch.bool
        assert selection.mask.shape == problem.own.shape
        assert selection.layers.shape == problem.own.shape[:2]

    def test_scores(self, selector: LayerSelector, problem: Problem) -> None:
        scores = selector.select(problem).scores
        if scores is None:
            pytest.skip("chooses without scores")
        assert scores.shape == problem.own.shape[:2]
        assert not scores.isnan().any()
        assert not scores.requires_grad

    def test_more_wanted_than_there_is(self, selector: LayerSelector) -> None:
        problem = self.make_problem(selector, L=1, E=4, top_k=2, core=2)
        with suppress(SettingError):  # to take what there is, or to say so, are both right
            assert selector.select(problem).mask.shape == (3, 1, 4)

    def test_deterministic(self, selector: LayerSelector) -> None:
        one, other = (selector.select(self.make_problem(selector)) for _ in range(2))
        assert torch.equal(one.mask, other.mask)

    def test_batch_equals_one_by_one(self, selector: LayerSelector) -> None:
        batch = selector.select(self.make_problem(selector))
        for b in range(len(batch.mask)):
            one = selector.select(self.make_problem(selector, only=b))
            assert torch.equal(batch.mask[b : b + 1], one.mask)

    def test_inputs_untouched(self, selector: LayerSelector, problem: Problem) -> None:
        before = tensors(problem)
        selector.select(problem)
        for name, tensor in tensors(problem).items():
            assert torch.equal(tensor, before[name]), f"{name} was changed"

    def test_does_not_look_at_the_label(self, selector: LayerSelector, problem: Problem) -> None:
        if selector.needs_label:
            pytest.skip("an upper bound, declared as one")
        same = self.make_problem(selector)
        assert torch.equal(selector.select(sealed(problem)).mask, selector.select(same).mask)
