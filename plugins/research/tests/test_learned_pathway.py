"""A change that is a function of the question: it finds what is planted, and leaves noise alone."""

import inspect
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import torch
from c3po_research import _known, learned_pathway
from c3po_research._known import own_in, reduced
from c3po_research.learned_pathway import LearnedPathway, gates
from c3po_research.reinforced import RLLayers
from remixing.test_remixer import remixer
from routing.naive import shared_model
from routing.toys import HashEmbedder, questions

from c3po_adaptive.optimizers._question_features import KNOWN_AND_LOSS, known
from c3po_adaptive.references.build import build_reference_set
from c3po_adaptive.routing.mixing import mass
from c3po_adaptive.selectors import Fixed
from c3po_adaptive.storage.identity import digest_of_file
from c3po_adaptive.storage.kept import code_of
from c3po_adaptive.testing import ToyTraining, toy_problem
from c3po_adaptive.types import Selection

SIZE, H, N = (6, 24), 8, 400


@dataclass(frozen=True)
class Planted(ToyTraining):
    """References of two kinds, told apart by the state, that want opposite changes in layer 2; or whose kinds tell
    nothing.
    """

    told: bool = True
    seed: int = 0

    def of_references(self, artifact):
        drawn = torch.Generator().manual_seed(self.seed)
        kind = torch.randint(2, (N,), generator=drawn).float() * 2 - 1
        wants = kind if self.told else torch.randint(2, (N,), generator=drawn).float() * 2 - 1
        own = toy_problem(1, *SIZE, seed=3).own.expand(N, -1, -1)
        state = 0.3 * torch.randn(N, SIZE[0], H, generator=drawn)
        state[:, 0, 0] += kind
        slope = torch.randn(N, *SIZE, generator=drawn)
        slope[:, 2] += 4 * wants[:, None] * torch.linspace(-1, 1, SIZE[1])
        known_ = known(own, state, torch.zeros(N, 3))
        return {"known and loss": torch.cat([known_, torch.zeros(N, 1)], -1), "gradient": slope}[artifact.name]


def asked():
    """Two questions with the same pathway, one of each kind."""
    problem = toy_problem(1, *SIZE, seed=3)
    state = torch.zeros(2, SIZE[0], H)
    state[:, 0, 0] = torch.tensor([-1.0, 1.0])
    own = problem.own.expand(2, -1, -1)
    return replace(
        problem,
        own=own,
        router=problem.router.expand(2, -1, -1),
        router_input=state,
        own_scores=torch.zeros(2, 3),
        selection=Selection(torch.ones_like(own) > 0),
    )


def change(training, **settings):
    problem = asked()
    return LearnedPathway(**settings).prepare(training).optimize(problem) - problem.own


def test_it_moves_each_kind_its_own_way():
    down, up = change(Planted(), factors=2, steps=300)[:, 2]
    slope = torch.linspace(-1, 1, SIZE[1])
    assert (down * slope).sum() > 0.1 * mass(asked().own)[0, 2, 0]
    assert (up * slope).sum() < -0.1 * mass(asked().own)[0, 2, 0]


def test_its_factors_show_which_kind_takes_which():
    learned = LearnedPathway(factors=2, steps=300).prepare(Planted()).learned
    known_ = Planted().of_references(KNOWN_AND_LOSS)[:, :-1]
    shares = gates(learned, reduced(learned, known_))
    kind = known_[:, 0].sign()
    assert abs(torch.corrcoef(torch.stack([shares[:, 0], kind]))[0, 1]) > 0.9


def test_one_factor_cannot_part_them():
    moved = change(Planted(), factors=1, steps=300)
    torch.testing.assert_close(moved[0], moved[1])


def test_what_does_not_help_those_held_back_leaves_all_alone():
    """Kinds that tell nothing: of ten draws most keep the start, exactly."""
    left = [not change(Planted(told=False, seed=seed), steps=60).any() for seed in range(10)]
    assert sum(left) >= 7


def test_it_is_learned_once():
    training = Planted()
    one, two = (LearnedPathway(steps=20).prepare(training) for _ in range(2))
    assert one.learned is two.learned


def test_own_pathways_are_in_what_is_known():
    own, state = toy_problem(3, *SIZE).own, torch.randn(3, SIZE[0], 7, generator=torch.Generator().manual_seed(0))
    assert torch.equal(own_in(known(own, state, torch.zeros(3, 4)), SIZE), own)


def test_what_others_learn_from_decides_what_is_learned():
    """A selector that learns takes references away, so what was learned with all of them is not used again."""
    known = build_reference_set(shared_model("olmoe"), questions(60), HashEmbedder())
    made = partial(remixer, references=known, learn_from="all", optimizer=LearnedPathway(factors=1, steps=20))
    first, again = (made(selector=Fixed(n=2, experts=6)) for _ in range(2))
    other = made(selector=RLLayers(training=8, group=2, epochs=1, experts=6))
    learned = [run.strategies.optimizer.learned["mean"] for run in (first, again, other)]
    assert learned[0] is learned[1] or torch.equal(learned[0], learned[1])
    assert not torch.equal(learned[0], learned[2])
    assert first.setup_flops == again.setup_flops, "what was learned before costs what it cost"


def test_what_it_shares_with_others_is_its_code():
    code = [digest_of_file(Path(inspect.getfile(module)))[:16] for module in (_known, learned_pathway)]
    assert {*code} <= {*code_of(LearnedPathway())}
