"""The contract of pathway optimizers."""

from __future__ import annotations

from dataclasses import fields, replace
from typing import Any, cast

import pytest
import torch
from torch import Tensor

from ..optimizers.base import PathwayOptimizer
from ..problem import LabeledProblem, Problem
from ..types import Selection
from .contract import Contract, check_identity
from .toy import altered, tensors, toy_problem


class OptimizerContract(Contract):
    """Supply a fixture ``optimizer``."""

    @pytest.fixture
    def problem(self, optimizer: PathwayOptimizer) -> Problem:
        return self.make_problem(optimizer)

    def make_problem(self, optimizer: PathwayOptimizer, **changes: Any) -> Problem:
        """The toy that this suite is run on; override it for an optimizer that needs another."""
        return toy_problem(labeled=optimizer.needs_label, **changes)

    def test_identity(self, optimizer: PathwayOptimizer) -> None:
        check_identity("optimizer", optimizer)

    def test_shape(self, optimizer: PathwayOptimizer, problem: Problem) -> None:
        omega = optimizer.optimize(problem)
        assert omega.shape == problem.own.shape
        assert omega.dtype == problem.own.dtype
        assert omega.isfinite().all()
        assert not omega.requires_grad

    def test_leaves_alone_what_is_not_selected(self, optimizer: PathwayOptimizer, problem: Problem) -> None:
        selection = _selection(problem)
        omega = optimizer.optimize(problem)
        assert torch.equal(omega[~selection.layers], problem.own[~selection.layers])

        mask = selection.mask.clone()
        mask[1] = False
        some = optimizer.optimize(replace(problem, selection=Selection(mask)))
        assert torch.equal(some[1], problem.own[1]), "a sample may be left alone beside others that are not"

        nothing = replace(problem, selection=Selection(torch.zeros_like(mask)))
        assert torch.equal(optimizer.optimize(nothing), problem.own)

    def test_layers_keep_their_mass(self, optimizer: PathwayOptimizer, problem: Problem) -> None:
        omega = optimizer.optimize(problem)
        torch.testing.assert_close(omega.sum(-1), problem.own.sum(-1), rtol=1e-5, atol=1e-5)

    def test_not_negative(self, optimizer: PathwayOptimizer, problem: Problem) -> None:
        assert (optimizer.optimize(problem) >= 0).all()

    def test_mixes_only_own_and_selected_experts(self, optimizer: PathwayOptimizer, problem: Problem) -> None:
        omega = optimizer.optimize(problem)
        assert (omega[~(_selection(problem).mask | (problem.own > 0))] == 0).all()

    def test_inputs_untouched(self, optimizer: PathwayOptimizer, problem: Problem) -> None:
        before = tensors(problem)
        optimizer.optimize(problem)
        for name, tensor in tensors(problem).items():
            assert torch.equal(tensor, before[name]), f"{name} was changed"

    def test_no_step_is_the_base(self, optimizer: PathwayOptimizer, problem: Problem) -> None:
        if "steps" not in {field.name for field in fields(optimizer)}:  # type: ignore[arg-type]
            pytest.skip("takes no steps")
        still: PathwayOptimizer = replace(optimizer, steps=0)  # type: ignore[type-var]
        assert torch.equal(still.optimize(problem), problem.own)

    def test_no_neighbours_no_change(self, optimizer: PathwayOptimizer) -> None:
        if optimizer.needs_label:
            pytest.skip("learns from the label")
        problem = self.make_problem(optimizer, alone=[1])
        omega = optimizer.optimize(problem)
        assert omega.isfinite().all()
        assert torch.equal(omega[1], problem.own[1])
        everyone = self.make_problem(optimizer, alone=[0, 1, 2])
        assert torch.equal(optimizer.optimize(everyone), everyone.own)

    def test_same_seed_same_result(self, optimizer: PathwayOptimizer) -> None:
        one, other = (optimizer.optimize(self.make_problem(optimizer)) for _ in range(2))
        assert torch.equal(one, other)

    def test_batch_equals_one_by_one(self, optimizer: PathwayOptimizer) -> None:
        batch = optimizer.optimize(self.make_problem(optimizer, alone=[2]))
        for b in range(len(batch)):
            one = optimizer.optimize(self.make_problem(optimizer, alone=[2], only=b))
            torch.testing.assert_close(batch[b : b + 1], one, rtol=0, atol=1e-4)

    def test_does_not_look_at_the_label(self, optimizer: PathwayOptimizer, problem: Problem) -> None:
        if optimizer.needs_label:
            pytest.skip("an upper bound, declared as one")
        assert torch.equal(optimizer.optimize(sealed(problem)), optimizer.optimize(self.make_problem(optimizer)))


def sealed(problem: Problem) -> LabeledProblem:
    """The same problem, with a label that raises when it is looked at."""

    def label_loss(weights: Tensor, running: Tensor | None = None) -> Tensor:
        raise AssertionError("Expected a method that does not know the test label, got one that looked at it.")

    return cast(
        LabeledProblem,
        altered(
            LabeledProblem(
                **vars(problem), label_loss=label_loss, answers=cast(Tensor, _Sealed()), answered=cast(Any, _Sealed())
            )
        ),
    )


class _Sealed:
    """Labels that raise when they are looked at."""

    def __getattr__(self, name: str) -> Any:
        raise AssertionError("Expected a method that does not know the test label, got one that looked at it.")


def _selection(problem: Problem) -> Selection:
    assert problem.selection is not None
    return problem.selection
