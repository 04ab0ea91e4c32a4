"""The contract of rules by name."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, ClassVar

import torch
from torch import nn

from ..rules.base import NamedRule
from .contract import Contract, check_identity, expect, refused

if TYPE_CHECKING:
    from ..routing.router_rules import LayerRouting
    from ..routing.styles import Change

LAYERS, EXPERTS, TOP_K, TOKENS = (2, 3, 5), 16, 4, 9


def toy_routing(layer: int = 3) -> LayerRouting:
    """What a toy layer of 16 experts, of which four are used, is about to do with nine tokens of two texts."""
    from ..routing.router_rules import LayerRouting  # transformers, which checks of other roles do without
    from ..routing.sites import Site
    from ..routing.styles import Fused

    logits = torch.randn(TOKENS, EXPERTS, generator=torch.Generator().manual_seed(layer))
    logits[:, -1] = -torch.inf  # as of a choice that is no expert
    weights, index = logits.softmax(-1).topk(TOP_K)
    site = Site(layer, nn.Identity(), nn.Identity(), Fused(), EXPERTS, TOP_K)
    token = torch.tensor([0, 1, 2, 3, 4, 0, 1, 2, 3])
    sample, real = torch.tensor([0] * 5 + [1] * 4), torch.ones(TOKENS, dtype=torch.bool)
    return LayerRouting(LAYERS.index(layer), index, weights, logits, sample, token, real, site, LAYERS)


class RuleContract(Contract):
    """Supply a fixture ``rule``. It is asked at three layers of 16 experts, of which a token uses four."""

    role: ClassVar[str] = "rule"

    def test_identity(self, rule: NamedRule) -> None:
        """Name and parameters identify a run.

        Make it a frozen dataclass with ``name: ClassVar[str]`` in kebab case, and parameters that JSON can hold.
        """
        check_identity("rule", rule)

    def test_edits_a_choice(self, rule: NamedRule) -> None:
        """``edit(choice)`` returns a ``Choice`` of the same tokens and experts, without NaN, and leaves its argument.

        ``dataclasses.replace(choice, scores=…)``; scores are ``[R, E]``, ``banned`` and ``forced`` ``[E]`` of bool.
        """
        from ..routing.choice import Choice

        own = Choice.own(toy_routing())
        before = own.scores.clone()
        found = rule.edit(own)
        expect(isinstance(found, Choice), "a Choice", type(found).__name__)
        expect(found.scores.shape == before.shape, "scores of shape (R, E)", tuple(found.scores.shape))
        expect(not found.scores.isnan().any(), "scores without NaN", "NaN")
        for name in ("banned", "forced"):
            part = getattr(found, name)
            expect(part.shape == (EXPERTS,) and part.dtype == torch.bool, f"{name} of shape (E,), bool", part)
        expect(torch.equal(own.scores, before), "the choice that was given as it was", "other scores")

    def test_gives_experts_that_there_are(self, rule: NamedRule) -> None:
        """Each token uses different experts that the layer has, with finite weights from 0 on.

        Scores may be -inf for some experts, for not too many: ``k`` have to be left.
        """
        change = self._changed(rule)
        if change is None:
            return
        index, weights = change.index, change.weights
        expect(bool(((index >= 0) & (index < EXPERTS)).all()), f"experts from 0 to {EXPERTS - 1}", index)
        expect(all(len({*row}) == len(row) for row in index.tolist()), "different experts of each token", index)
        expect(bool((weights.isfinite() & (weights >= 0)).all()), "finite weights from 0 on", weights)

    def test_is_the_same_each_time(self, rule: NamedRule) -> None:
        """Asked again, it gives the same; and so in another order of tokens.

        Draw nothing at random without a seed that is a parameter, and by ``routing.sample`` and ``routing.token``;
        a token's routing may not depend on others beside it.
        """
        once, again = self._changed(rule), self._changed(rule)
        order = torch.arange(TOKENS).flip(0)
        routing = toy_routing()
        turned = replace(
            routing,
            **{
                name: getattr(routing, name)[order]
                for name in ("index", "weights", "logits", "sample", "token", "real")
            },
        )
        back = replace(rule, layers="all")(turned)
        expect((once is None) == (again is None) == (back is None), "a change each time, or never", "both")
        if once is None or again is None or back is None:
            return
        expect(torch.equal(once.index, again.index), "the same experts again", "others")
        expect(torch.equal(once.index.sort(-1).values[order], back.index.sort(-1).values), "each token's own", "others")

    def test_leaves_other_layers_alone(self, rule: NamedRule) -> None:
        """In layers that ``layers`` does not name, nothing is changed.

        Leave ``__call__`` and ``edited`` as the base class has them, and keep the field ``layers``.
        """
        expect(replace(rule, layers="5")(toy_routing(3)) is None, "nothing to be changed in layer 3", "a change")

    def test_refuses_layers_that_there_are_not(self, rule: NamedRule) -> None:
        """A layer that the model does not have is refused with a ``ValueError`` that says so.

        Call ``super().fits(layers, experts)`` first where ``fits`` is overridden.
        """
        with refused(ValueError, "MoE layers", "layer 4 of layers 2, 3 and 5"):
            replace(rule, layers="4")(toy_routing())

    def _changed(self, rule: NamedRule) -> Change | None:
        return replace(rule, layers="all")(toy_routing())
