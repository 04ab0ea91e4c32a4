"""Each contract refuses the plugins that it is there to refuse, and says where and how to mend them, without pytest."""

import itertools
import subprocess
import sys
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest
import torch
from pydantic import PositiveFloat

from c3po_adaptive import (
    AnswererStrategy,
    CosineIndex,
    Hits,
    Kernel,
    LabeledProblem,
    LayerSelector,
    PathwayOptimizer,
    PluginError,
    ReferenceArtifact,
    Retriever,
    ScoredLayers,
    Selection,
    ShapeError,
)
from c3po_adaptive.optimizers.ngd import NGD
from c3po_adaptive.registry import new_registry
from c3po_adaptive.retrievers import FaissKNN
from c3po_adaptive.rules import TopK
from c3po_adaptive.selectors import Fixed
from c3po_adaptive.testing import toy_problem
from c3po_adaptive.testing.findings import check_contract, command, findings, parts

_calls = itertools.count()


def found_by_test(role, strategy):
    return {found.test: found for found in findings(role, strategy)}


def line_of(beginning):
    """Where a line of this file stands."""
    lines = Path(__file__).read_text().split("\n")
    return f"test_findings.py:{next(n for n, text in enumerate(lines, 1) if text.startswith(beginning))}"


def failing(role, strategy):
    return [found.test for found in findings(role, strategy) if found.outcome == "fails"]


def towards_neighbours(problem):
    """What an optimizer does that keeps its contract."""
    return NGD(steps=1).optimize(problem)


@dataclass(frozen=True)
class Wrong(PathwayOptimizer):
    """What ``towards_neighbours`` gives, spoilt by ``how``."""

    how: str = ""
    steps: int = 1
    name: ClassVar[str] = "wrong"

    def optimize(self, problem):
        return SPOILT[self.how][1](problem, towards_neighbours(problem))


def in_place(problem, omega):
    problem.own.mul_(2)
    return omega


def looks_where_it_can(problem):
    return looks(problem) if isinstance(problem, LabeledProblem) else None


def looks(problem):
    problem.label_loss(problem.own)


def compares(problem):
    return isinstance(problem, LabeledProblem) and problem.own_scores.argmax(-1) == problem.answers


LOOKS = {"label": looks_where_it_can, "unasked label": looks, "right answer": compares}


def noise(problem, omega):
    layers = problem.selection.layers[..., None] & problem.neighbours.weight.any(-1)[:, None, None]
    moved = omega * (1 + 0.1 * torch.rand(omega.shape, generator=torch.Generator().manual_seed(next(_calls))))
    return torch.where(layers, moved * problem.own.sum(-1, keepdim=True) / moved.sum(-1, keepdim=True), omega)


def of_the_batch(problem, omega):
    """The whole batch's mean where a layer is selected."""
    going = problem.selection.layers[..., None] & problem.neighbours.weight.any(-1)[:, None, None]
    mean = omega.mean(0, keepdim=True) * (problem.selection.mask | (problem.own > 0))
    mass = problem.own.sum(-1, keepdim=True) / mean.sum(-1, keepdim=True).clamp_min(1e-12)
    return torch.where(going, mean * mass, omega)


def spread(problem, omega):
    mean = omega.mean(-1, keepdim=True).expand_as(omega)
    return torch.where(problem.selection.layers[..., None], mean, omega)


def even(problem, omega):
    """All experts alike where a layer is selected, whether anything is near or not."""
    there = (problem.selection.mask | (problem.own > 0)).float()
    alike = there * problem.own.sum(-1, keepdim=True) / there.sum(-1, keepdim=True)
    return torch.where(problem.selection.layers[..., None], alike, omega)


SPOILT = {
    "nan": ("shape", lambda problem, omega: omega * float("nan")),
    "shape": ("shape", lambda problem, omega: omega[:, 0]),
    "list": ("shape", lambda problem, omega: omega.tolist()),
    "dtype": ("shape", lambda problem, omega: omega.double()),
    "device": ("shape", lambda problem, omega: omega.to("meta")),
    "graph": ("shape", lambda problem, omega: omega.clone().requires_grad_()),
    "mass": ("layers keep their mass", lambda problem, omega: 2 * omega),
    "negative": ("not negative", lambda problem, omega: omega - 1),
    "support": ("mixes only own and selected experts", spread),
    "selection": ("leaves alone what is not selected", lambda problem, omega: omega.flip(-1)),
    "in place": ("inputs untouched", in_place),
    "not deterministic": ("same seed same result", noise),
    **{
        how: ("does not look at the label", lambda problem, omega, look=look: (look(problem), omega)[1])
        for how, look in LOOKS.items()
    },
    "batch": ("batch equals one by one", of_the_batch),
    "without neighbours": ("no neighbours no change", even),
    "without steps": ("no step is the base", lambda problem, omega: omega),
}
"""Ways to be wrong: the test that has to see it, and what it does to weights."""


@pytest.mark.parametrize("how", SPOILT)
def test_wrong_optimizers(how):
    found = found_by_test("optimizer", Wrong(how))[SPOILT[how][0]]
    assert found.outcome == "fails", found
    assert "test_findings.py:" in found.where
    assert found.remedy


def test_a_finding_says_what_where_and_how_to_mend():
    found = found_by_test("optimizer", Wrong("shape"))["shape"]
    assert found.what == "Expected weights of shape (B, L, E) = (3, 6, 24), got (3, 24)."
    assert found.wanted.startswith("It returns finite weights `[B, L, E]`")
    assert "problem.own" in found.remedy


@pytest.mark.parametrize("how", ["label", "unasked label", "right answer"])
@pytest.mark.parametrize("role", ["optimizer", "selector"])
def test_looking_at_the_label_is_named_once(role, how):
    strategy = Wrong(how) if role == "optimizer" else WrongSelector(how)
    (found,) = (one for one in findings(role, strategy) if one.test == "does not look at the label")
    assert found.outcome == "fails"
    assert "looked at the right answer" in found.what and "use problem.loss" in found.what
    line = "    return isinstance(problem, LabeledProblem)" if how == "right answer" else "    problem.label_loss"
    assert found.where.endswith(line_of(line)), "the line that looks, not that of the contract"


@dataclass(frozen=True)
class Stumbling(PathwayOptimizer):
    """Raises."""

    name: ClassVar[str] = "stumbling"

    def optimize(self, problem):
        return problem.own[99]


def test_an_exception_is_a_finding_with_its_line():
    found = found_by_test("optimizer", Stumbling())["shape"]
    assert found.what.startswith("IndexError: index 99 is out of bounds")
    assert found.where.endswith(line_of("        return problem.own[99]"))


def test_a_wrong_shape_is_told_once():
    found = found_by_test("optimizer", Wrong("shape"))
    assert [test for test, one in found.items() if one.outcome == "fails"] == ["shape"]
    assert found["not negative"].what == "not tried before 'shape' holds"
    assert found["identity"].outcome == "holds"


def test_the_same_failure_is_told_once():
    found = found_by_test("retriever", WrongRetriever("nothing"))
    failing = [one for one in found.values() if one.outcome == "fails"]
    assert len({(one.what, one.where) for one in failing}) == len(failing)
    assert found["deterministic"].what == "the same as of 'excluded are never returned'"


@dataclass(frozen=True)
class OneExpert(PathwayOptimizer):
    """NaN for one expert, by its number."""

    expert: int = 0
    name: ClassVar[str] = "one-expert"

    def optimize(self, problem):
        omega = towards_neighbours(problem).clone()
        omega[problem.selection.layers] += torch.where(torch.arange(omega.shape[-1]) == self.expert, torch.nan, 0.0)
        return omega


@pytest.mark.parametrize(("expert", "test"), [(5, "shape"), (40, "finite for more experts")])
def test_nan_for_one_expert_alone(expert, test):
    found = [one for one in findings("optimizer", OneExpert(expert)) if one.outcome == "fails"]
    assert [one.test for one in found] == [test]
    assert "NaN or infinite" in found[0].what


@dataclass(frozen=True, kw_only=True)
class ScoredExperts(ScoredLayers):
    """Scores of layers and experts, these spoilt by ``how``."""

    how: str = ""
    name: ClassVar[str] = "scored-experts"

    def score(self, problem):
        each = problem.router.clone()
        if self.how == "nan":
            each[:, -1, 3] = torch.nan
        return problem.own.sum(-1), each[..., :-1] if self.how == "shape" else each.requires_grad_(self.how == "graph")


@pytest.mark.parametrize(("how", "said"), [("nan", "NaN among them"), ("shape", "(3, 6, 23)"), ("graph", "gradient")])
def test_scores_of_experts_are_looked_at(how, said):
    found = found_by_test("selector", ScoredExperts(how=how))["scores of experts"]
    assert (found.outcome, said in found.what) == ("fails", True), found
    assert failing("selector", ScoredExperts()) == []


@pytest.mark.parametrize("how", ["nan", "shape"])
def test_scores_of_experts_that_rank_nothing_are_refused(how):
    with pytest.raises(ShapeError, match="scored-experts to score experts"):
        ScoredExperts(how=how, rank="score", n=1, experts=2).select(toy_problem(selected=None))


def test_the_command_that_checks_has_the_parameters_that_broke_it():
    assert command(Wrong(), "my plugin.py") == "c3po plugins check 'my plugin.py'"
    assert command(Wrong("mass", steps=2), "mine.py") == (
        "c3po plugins check wrong --plugin mine.py --set 'how=\"mass\"' --set steps=2"
    )
    assert command(Wrong(steps=2), "wrong") == "c3po plugins check wrong --set steps=2"
    with pytest.raises(PluginError, match=r"c3po plugins check wrong --plugin mine\.py --set 'how=\"mass\"' says how"):
        check_contract("optimizer", Wrong("mass"), "mine.py")


@dataclass(frozen=True)
class WrongSelector(LayerSelector):
    """The last two layers, spoilt by ``how``."""

    how: str = ""
    name: ClassVar[str] = "wrong"

    def select(self, problem):
        mask = torch.zeros_like(problem.own, dtype=torch.bool)
        mask[:, -2:, :2] = True
        if self.how == "batch":
            mask[:, int(problem.own.amax((0, 2)).argmax())] = True
        elif self.how == "not deterministic":
            mask[:, next(_calls) % mask.shape[1]] ^= True
        elif self.how in LOOKS:
            LOOKS[self.how](problem)
        elif self.how == "in place":
            problem.router.mul_(2)
        scores = torch.full(mask.shape[:2], torch.nan) if self.how == "scores" else None
        return None if self.how == "nothing" else Selection(mask.float() if self.how == "dtype" else mask, scores)


@dataclass(frozen=True)
class WrongKernel(Kernel):
    """x·y, spoilt by ``how``."""

    how: str = ""
    name: ClassVar[str] = "wrong"

    def __call__(self, x, y):
        from sklearn.metrics.pairwise import euclidean_distances, linear_kernel

        if self.how == "unchecked":
            return x @ np.resize(y, (len(y), x.shape[1])).T
        values = linear_kernel(x, y)
        if self.how == "distance":
            return euclidean_distances(x, y)  # no kernel: K(x, x) is zero
        if self.how == "in place":
            x *= 2
        if self.how == "nan":
            return values * np.nan
        if self.how == "not symmetric":
            return values + (x**2).sum(1, keepdims=True)
        if self.how == "batch":
            return values / len(y)
        if self.how == "not deterministic":
            return values + next(_calls)
        return values.T if self.how == "shape" else values


@dataclass(frozen=True, eq=False)
class WrongIndex(CosineIndex):
    """All that are allowed, the k nearest, spoilt by ``how`` afterwards."""

    how: str = ""

    def nearest(self, query, banned, max_similarity, key):
        if self.how == "duplicates":
            max_similarity = 1.0
        rows, similarity = self.allowed(query, [] if self.how == "excluded" else banned, max_similarity)
        order = np.argsort(-similarity, kind="stable")[: self.k]
        if self.how == "not deterministic":
            order = order[next(_calls) % 2 :]
        return rows[order], similarity[order] + (1e-3 if self.how == "cosine" else 0)

    def search(self, queries, **filters):
        hits = super().search(queries, **filters)
        if self.how == "unsorted":
            return Hits(hits.index[:, ::-1].copy(), hits.similarity[:, ::-1].copy())
        if self.how == "dtype":
            return Hits(hits.index.astype(np.float32), hits.similarity)
        if self.how == "batch":
            return Hits(np.roll(hits.index, 1, 0), np.roll(hits.similarity, 1, 0))
        return hits


@dataclass(frozen=True)
class WrongRetriever(Retriever):
    """Keeps ``WrongIndex``."""

    how: str = ""
    name: ClassVar[str] = "wrong"

    def fit(self, vectors):
        if self.how == "nothing":
            return None
        return WrongIndex(vectors if self.how == "unchecked" else WrongIndex.scaled(vectors), 3, self.how)


@dataclass(frozen=True)
class WrongAnswerer(AnswererStrategy):
    """The model's plain answers, spoilt by ``how``."""

    how: str = ""
    name: ClassVar[str] = "wrong"

    def prepare(self, context):
        return WrongAnswers(self.how, context)

    def used(self, strategies):
        return ("oracle",) if self.how == "used" else ()


@dataclass(frozen=True, eq=False)
class WrongAnswers:
    how: str
    context: object
    needs_label: bool = field(default=False, init=False)

    def answer(self, questions):
        answers = self.context.plain(questions)
        if self.how == "changes the model":
            with torch.no_grad():
                next(self.context.model.model.parameters()).view(-1)[0] += 0.01
        if self.how == "fewer":
            return answers[1:]
        return [
            replace(a, scores=tuple(self._spoilt(a, q, len(answers)))) for a, q in zip(answers, questions, strict=True)
        ]

    def _spoilt(self, answer, question, count):
        offset = {"batch": count, "not deterministic": next(_calls), "label": question.answer or 0, "nan": float("nan")}
        return [score + offset.get(self.how, 0) for score in answer.scores]


WRONG = [
    (WrongSelector, "mask", ["nothing", "dtype"]),
    (WrongSelector, "scores", ["scores"]),
    (WrongSelector, "batch equals one by one", ["batch"]),
    (WrongSelector, "deterministic", ["not deterministic"]),
    (WrongSelector, "does not look at the label", ["label"]),
    (WrongSelector, "inputs untouched", ["in place"]),
    (WrongKernel, "positive semi definite", ["distance"]),
    (WrongKernel, "shape", ["shape", "nan", "not deterministic"]),
    (WrongKernel, "symmetric", ["not symmetric"]),
    (WrongKernel, "batch equals loop", ["batch"]),
    (WrongKernel, "inputs untouched", ["in place"]),
    (WrongKernel, "refuses vectors that do not fit", ["unchecked"]),
    (WrongRetriever, "hits are real sorted and unique", ["nothing", "unsorted", "cosine", "dtype"]),
    (WrongRetriever, "excluded are never returned", ["excluded"]),
    (WrongRetriever, "no more similar than allowed", ["duplicates"]),
    (WrongRetriever, "deterministic", ["not deterministic"]),
    (WrongRetriever, "batch equals one by one", ["batch"]),
    (WrongRetriever, "refuses bad vectors", ["unchecked"]),
    (WrongAnswerer, "an answer for each question", ["fewer", "nan"]),
    (WrongAnswerer, "deterministic", ["not deterministic"]),
    (WrongAnswerer, "batch equals one by one", ["batch"]),
    (WrongAnswerer, "does not look at the label", ["label"]),
    (WrongAnswerer, "leaves the model as it was", ["changes the model"]),
    (WrongAnswerer, "used names roles and settings", ["used"]),
]
"""Other strategies that are wrong: the test that has to see it, and the ways."""


@pytest.mark.parametrize(("kind", "how", "test"), [(kind, how, test) for kind, test, ways in WRONG for how in ways])
def test_other_wrong_strategies(kind, how, test):
    role = kind.__name__.removeprefix("Wrong").lower()
    assert test in failing(role, kind(how))


@dataclass(frozen=True)
class Forgetful(LayerSelector):
    """Raises when it is to learn."""

    name: ClassVar[str] = "forgetful"
    references_needed: ClassVar[int] = 32

    def prepare(self, training):
        raise KeyError("weights")

    def select(self, problem):
        raise NotImplementedError


@dataclass(frozen=True, kw_only=True)
class Negative(ScoredLayers):
    """Scores below zero: the order is right, and no layer is above the threshold."""

    name: ClassVar[str] = "negative"

    def score(self, problem):
        return problem.own.amax(-1) - 2, None


def test_a_selector_that_re_mixes_nothing_is_remarked_on():
    *tests, last = findings("selector", Negative())
    assert {found.outcome for found in tests} <= {"holds", "does not apply"}
    assert (last.outcome, last.what) == ("remark", "It re-mixed no layer of any question.")
    assert "`threshold`" in last.remedy
    assert "remark" not in {found.outcome for found in findings("selector", Negative(threshold=-2))}
    check_contract("selector", Negative(), "negative.py")


@dataclass(frozen=True)
class Unasked(LayerSelector):
    """Looks at what it does not ask for."""

    at: str = ""
    name: ClassVar[str] = "unasked"
    needs_neighbours: ClassVar[bool] = False

    def select(self, problem):
        looked = {
            "weights": lambda: problem.neighbours.weight,
            "pathways": lambda: problem.neighbour_pathways[:, 0],
            "loss": lambda: problem.within(Selection(problem.own > 0)).loss(problem.own),
            "artifact": lambda: problem.of_neighbours(ReferenceArtifact("own", lambda batch: batch.own)),
        }
        looked[self.at]()
        return Selection(problem.own > 0)


@pytest.mark.parametrize("at", ["weights", "pathways", "loss", "artifact"])
def test_a_selector_that_looks_at_neighbours_asks_for_them(at):
    found = found_by_test("selector", Unasked(at))["asks for the neighbours that it looks at"]
    assert found.what == "Expected needs_neighbours = True of a selector that looks at neighbours, got False."
    assert found.where.endswith(line_of(f'            "{at}"'))
    assert [f.test for f in findings("selector", Unasked(at)) if f.outcome == "fails"] == [found.test]


def test_a_selector_that_cannot_learn():
    assert failing("selector", Forgetful()) == ["prepare"]


@pytest.mark.parametrize("entry", new_registry().table(), ids=lambda entry: f"{entry.role} {entry.name}")
def test_all_that_ship_keep_their_contract(entry, tmp_path):
    if entry.name == "dense":
        pytest.skip("it needs a dense model with the toy's tokenizer, which its own tests make")
    if entry.name == "sound-routing":
        pytest.skip("it needs a model with a known fault, which its own tests make")
    (tmp_path / "facts.txt").write_text("Wood floats on water.\n\nStones sink.\n")
    needed = {
        "informed": {"passages": str(tmp_path / "facts.txt")},
        "joint": {"passages": str(tmp_path / "facts.txt"), "k": 1, "training": 16},
        "rule": {"rule": TopK(1)},
        "ban": {"experts": (3, 5)},
        "force": {"experts": (2,)},
        "bias": {"experts": (3,), "by": 2.5},
        "top-k": {"k": 1},
        "temperature": {"value": 0.5},
    }.get(entry.name, {})
    assert failing(entry.role, entry.cls(**needed)) == []


def test_a_selector_that_takes_more_is_tested_on_a_larger_toy():
    assert failing("selector", Fixed(n=12, experts=40)) == []


@dataclass(frozen=True, kw_only=True)
class Around(ScoredLayers):
    """A selector with a retriever of its own."""

    retriever: Retriever = field(default_factory=FaissKNN)
    name: ClassVar[str] = "around"

    def score(self, problem):
        return problem.own.sum(-1), None


def test_parts_are_found():
    assert [role for role, _ in parts("selector", Around())] == ["selector", "retriever"]


def test_a_broken_strategy_is_refused_with_all_that_fails():
    with pytest.raises(PluginError, match=r"(?s)optimizer 'wrong'.*layers keep their mass: .*--unchecked"):
        check_contract("optimizer", Wrong("mass"), "wrong.py")
    check_contract("optimizer", NGD(), "ngd")


def test_pytest_is_not_needed_nor_transformers_without_a_model():
    code = "import sys; sys.modules['pytest'] = None; import c3po_adaptive.testing.findings as f; "
    code += "from c3po_adaptive.optimizers.ngd import NGD; print({x.outcome for x in f.findings('optimizer', NGD())}, "
    code += "'transformers' in sys.modules)"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "{'holds'} False"


@dataclass(frozen=True)
class Unchecked(Kernel):
    scale: PositiveFloat = 1.0
    name: ClassVar[str] = "unchecked"

    def __post_init__(self):
        """Without that of its base."""

    def __call__(self, x, y):
        return self.scale * np.asarray(x) @ np.asarray(y).T


def test_parameters_are_held_against_their_types():
    found = found_by_test("kernel", Unchecked())["identity"]
    assert found.outcome == "fails"
    assert (
        "scale=object() (a __post_init__ calls super().__post_init__()) to be refused by a SettingError" in found.what
    )
