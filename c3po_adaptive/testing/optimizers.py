"""The contract of pathway optimizers."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields, replace
from typing import Any, ClassVar, cast, get_args

import torch
from torch import Tensor

from ..optimizers.base import PathwayOptimizer
from ..problem import LabeledProblem, Problem, label_refused
from ..types import Changes, Selection
from .contract import Contract, check_identity, expect, not_for
from .toy import altered, tensors, toy_problem

UPPER_BOUND = "an upper bound, declared as one"


class OptimizerContract(Contract):
    """Supply a fixture ``optimizer``. The toy has B = 3 samples, L = 6 layers, E = 24 experts."""

    role: ClassVar[str] = "optimizer"
    first: ClassVar[str] = "test_shape"

    def make_problem(self, optimizer: PathwayOptimizer, **changes: Any) -> Problem:
        """The toy that this suite is run on; override it for an optimizer that needs another."""
        return toy_problem(labeled=optimizer.needs_label, told=optimizer.needs_truth, **changes)

    def test_identity(self, optimizer: PathwayOptimizer) -> None:
        """Name and parameters identify a run.

        Make it a frozen dataclass with ``name: ClassVar[str]`` in kebab case, and parameters that JSON can hold.
        """
        check_identity("optimizer", optimizer)
        changes = optimizer.changes
        expect(changes in get_args(Changes), f"changes among {', '.join(get_args(Changes))}", repr(changes))
        once = optimizer.one_for_all
        expect(once is None or isinstance(once, str), "one_for_all to be a name, an empty text or None", repr(once))

    def test_shape(self, optimizer: PathwayOptimizer) -> None:
        """It returns finite weights ``[B, L, E]`` of the dtype and on the device of ``problem.own``, without a graph.

        Start from ``problem.own`` and ``.detach()`` what you return; look for 0/0 and log(0) where NaN comes.
        """
        problem = self.make_problem(optimizer)
        omega, own = optimizer.optimize(problem), problem.own
        expect(isinstance(omega, Tensor), "a tensor of weights", type(omega).__name__)
        expect(omega.shape == own.shape, f"weights of shape (B, L, E) = {tuple(own.shape)}", tuple(omega.shape))
        expect(omega.dtype == own.dtype, f"weights of dtype {own.dtype}", omega.dtype)
        expect(omega.device == own.device, f"weights on {own.device}", omega.device)
        expect(omega.isfinite().all(), "finite weights", f"{_bad(~omega.isfinite())} that are NaN or infinite")
        expect(not omega.requires_grad, "weights without a graph", "some that require a gradient")

    def test_finite_for_more_experts(self, optimizer: PathwayOptimizer) -> None:
        """Of a model with 64 experts a layer it returns finite weights of all of them, too.

        Number no expert, and look for 0/0 and log(0) where an expert has no weight.
        """
        not_for(optimizer.references_needed == 0, "learned from a model with fewer")
        problem = self.make_problem(optimizer, E=64)
        omega = optimizer.optimize(problem)
        expect(omega.shape == problem.own.shape, f"weights of shape {tuple(problem.own.shape)}", tuple(omega.shape))
        expect(omega.isfinite().all(), "finite weights", f"{_bad(~omega.isfinite())} that are NaN or infinite")

    def test_leaves_alone_what_is_not_selected(self, optimizer: PathwayOptimizer) -> None:
        """Layers that are not selected, and samples with nothing selected, keep the model's own weights, bit for bit.

        End with ``torch.where(problem.selection.layers.unsqueeze(-1), omega, problem.own)``.
        """
        problem = self.make_problem(optimizer)
        selection = _selection(problem)
        omega = optimizer.optimize(problem)
        outside = (omega != problem.own).any(-1) & ~selection.layers
        expect(not outside.any(), "layers outside the selection as they were", f"{_bad(outside)} changed (b, l)")

        mask = selection.mask.clone()
        mask[1] = False
        some = optimizer.optimize(replace(problem, selection=Selection(mask)))
        expect(torch.equal(some[1], problem.own[1]), "a sample without selection left alone beside others", "a change")

        nothing = replace(problem, selection=Selection(torch.zeros_like(mask)))
        expect(torch.equal(optimizer.optimize(nothing), problem.own), "nothing changed where nothing is selected")

    def test_layers_keep_their_mass(self, optimizer: PathwayOptimizer) -> None:
        """Each layer's weights sum to what the model's own sum to (OLMoE does not renormalize).

        Rescale each layer to ``problem.own.sum(-1, keepdim=True)``; a subclass of ``Descent`` is projected for you.
        """
        problem = self.make_problem(optimizer)
        drift = (optimizer.optimize(problem).sum(-1) - problem.own.sum(-1)).abs()
        expect((drift <= 2e-5).all(), "the mass of every layer kept", f"a sum off by {drift.max():.3g}")

    def test_not_negative(self, optimizer: PathwayOptimizer) -> None:
        """No weight is below zero.

        Clamp at zero, then rescale each layer to its mass.
        """
        omega = optimizer.optimize(self.make_problem(optimizer))
        expect((omega >= 0).all(), "weights >= 0", f"{omega.min():.3g}")

    def test_mixes_only_own_and_selected_experts(self, optimizer: PathwayOptimizer) -> None:
        """Weight is only on selected experts and on those that the model used itself.

        Keep the weights of others: ``torch.where(c3po_adaptive.allowed_experts(problem), omega, problem.own)``, and
        rescale the allowed ones to what ``problem.own`` has on them.
        """
        self._moves_only_allowed(optimizer, self.make_problem(optimizer))

    def test_keeps_the_rest_of_a_distribution(self, optimizer: PathwayOptimizer) -> None:
        """Where ω is a router's distribution (``problem.kind``), experts that are not selected keep theirs.

        As above: ``toward(problem, goal)`` and ``project(omega, allowed, problem.own)`` do so.
        """
        self._moves_only_allowed(optimizer, self.make_problem(optimizer, kind="router"))

    def _moves_only_allowed(self, optimizer: PathwayOptimizer, problem: Problem) -> None:
        omega, able = optimizer.optimize(problem), problem.changeable(_selection(problem).mask)
        other = (omega != problem.own) & ~able
        expect(not other.any(), "own weights on all but the experts that may change", f"{_bad(other)} (b, l, e)")
        drift = (omega.sum(-1) - problem.own.sum(-1)).abs()
        expect((drift <= 2e-5).all(), "the mass of every layer kept", f"a sum off by {drift.max():.3g}")

    def test_inputs_untouched(self, optimizer: PathwayOptimizer) -> None:
        """The problem's tensors are read, never written.

        ``problem.own.clone()`` before in-place operations (those whose names end with ``_``).
        """
        problem = self.make_problem(optimizer)
        before = tensors(problem)
        optimizer.optimize(problem)
        check_untouched(before, problem)

    def test_no_step_is_the_base(self, optimizer: PathwayOptimizer) -> None:
        """With ``steps=0`` the model's own weights come back, bit for bit.

        Return ``problem.own`` before anything is computed.
        """
        not_for("steps" in {field.name for field in fields(optimizer)}, "takes no steps")  # type: ignore[arg-type]
        still: PathwayOptimizer = replace(optimizer, steps=0)  # type: ignore[type-var]
        problem = self.make_problem(optimizer)
        expect(torch.equal(still.optimize(problem), problem.own), "the base, bit for bit, without steps", "other bits")

    def test_no_neighbours_no_change(self, optimizer: PathwayOptimizer) -> None:
        """A sample without neighbours is left alone, beside others that have some.

        Rows of ``problem.neighbours.index`` that are -1 are padding with weight zero; mind means over no rows. If it
        never looks at neighbours, say ``needs_neighbours: ClassVar[bool] = False``.
        """
        not_for(not optimizer.needs_label, "learns from the label")
        not_for(optimizer.needs_neighbours, "looks at no neighbours")
        not_for(not optimizer.searches_pathways, "finds its own neighbours in pathway space")
        problem = self.make_problem(optimizer, alone=[1])
        omega = optimizer.optimize(problem)
        expect(omega.isfinite().all(), "finite weights for a sample without neighbours", "NaN or infinity")
        expect(torch.equal(omega[1], problem.own[1]), "a sample without neighbours left alone", "a change")
        everyone = self.make_problem(optimizer, alone=[0, 1, 2])
        expect(torch.equal(optimizer.optimize(everyone), everyone.own), "no change without any neighbours", "some")

    def test_same_seed_same_result(self, optimizer: PathwayOptimizer) -> None:
        """The same problem gives the same weights, bit for bit.

        Draw from ``problem.generators`` (one a sample, seeded) alone, and keep nothing from one call to the next.
        """
        one, other = (optimizer.optimize(self.make_problem(optimizer)) for _ in range(2))
        expect(torch.equal(one, other), "the same weights twice", f"a difference of {(one - other).abs().max():.3g}")

    def test_batch_equals_one_by_one(self, optimizer: PathwayOptimizer) -> None:
        """A sample's weights do not depend on the others of its batch.

        Reduce over layers and experts, never over dimension 0; draw for sample b from ``problem.generators[b]``.
        """
        batch = optimizer.optimize(self.make_problem(optimizer, alone=[2]))
        for b in range(len(batch)):
            one = optimizer.optimize(self.make_problem(optimizer, alone=[2], only=b))
            off = (batch[b : b + 1] - one).abs().max() if one.shape == batch[b : b + 1].shape else torch.tensor(1.0)
            expect(off <= 1e-4, f"sample {b} alone as in its batch", f"a difference of {off:.3g}")

    def test_does_not_look_at_the_label(self, optimizer: PathwayOptimizer) -> None:
        """It never asks for the right answer.

        Use ``problem.loss`` and ``problem.scores``; an upper bound says ``needs_label: ClassVar[bool] = True``.
        """
        not_for(not optimizer.needs_label, UPPER_BOUND)
        found = optimizer.optimize(sealed(self.make_problem(optimizer)))
        same = torch.equal(found, optimizer.optimize(self.make_problem(optimizer)))
        expect(same, "the same weights whether a label is known or not", "others")


def check_untouched(before: dict[str, Tensor], problem: Problem) -> None:
    """The problem's tensors are what they were."""
    for name, tensor in tensors(problem).items():
        expect(torch.equal(tensor, before[name]), f"problem.{name} as it was", "other values")


def sealed(problem: Problem) -> LabeledProblem:
    """The same problem, with a label that raises when it is looked at."""
    label = _Label()
    known = {**vars(problem), "label_loss": label, "answers": label, "answered": label}
    return cast(LabeledProblem, altered(LabeledProblem(**known)))


def without_neighbours(problem: Problem) -> Problem:
    """The same problem, with neighbours that raise when they are looked at."""
    names = ("neighbours", "neighbour_pathways", "loss", "of_neighbours")
    return altered(problem, **dict.fromkeys(names, _Neighbours()))


class _Sealed:
    """Raises whatever is done with it, by torch and by operators as well; it may be handed on."""

    error: ClassVar[Callable[[], Exception]]

    @classmethod
    def _refuse(cls, *_: Any, **__: Any) -> Any:
        raise cls.error()

    __getattr__ = __getitem__ = __call__ = __iter__ = __len__ = __bool__ = __int__ = __index__ = _refuse
    __torch_function__ = __array__ = __eq__ = __ne__ = __lt__ = __le__ = __gt__ = __ge__ = _refuse
    __add__ = __radd__ = __sub__ = __rsub__ = __mul__ = __rmul__ = __truediv__ = __neg__ = __invert__ = _refuse


class _Label(_Sealed):
    error = label_refused


class _Neighbours(_Sealed):
    @staticmethod
    def error() -> Exception:
        return AssertionError("Expected needs_neighbours = True of a selector that looks at neighbours, got False.")


def _selection(problem: Problem) -> Selection:
    if problem.selection is None:
        raise AssertionError("Expected a problem with a selection, got one without.")
    return problem.selection


def _bad(where: Tensor) -> str:
    """How many, and the first of them."""
    found = where.nonzero().tolist()
    return f"{len(found)}, first at {tuple(found[0])}" if found else "none"
