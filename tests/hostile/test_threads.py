"""Several threads on one model: each answer is as it is alone, and the model is as before."""

import asyncio
import random
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import ClassVar

import pytest
import torch
from remixing.test_remixer import remixer
from routing.naive import assert_pristine, moved, routed_model
from routing.toys import HashEmbedder, questions, reference_set

from c3po_adaptive import Optimizer, read_routing, replaying, rule_named, watching
from c3po_adaptive.errors import PluginError
from c3po_adaptive.optimizers import NGD, PathwayOptimizer
from c3po_adaptive.references.build import build_reference_set
from c3po_adaptive.selectors import Fixed

THREADS, ANSWERS = 8, 400
ASKED = questions(12, "t")


@dataclass(frozen=True)
class Broken(PathwayOptimizer):
    """Runs the neighbours along another pathway, and fails in the middle."""

    name: ClassVar[str] = "broken"

    def optimize(self, problem):
        problem.loss(problem.own)
        raise ZeroDivisionError("on purpose")


@pytest.fixture(scope="module")
def model():
    return routed_model("olmoe")


@pytest.fixture(scope="module")
def work(model):
    """Calls of every kind by name; each gives plain numbers that can be compared."""
    references = build_reference_set(model, questions(24), HashEmbedder())
    selector = Fixed(n=2, experts=6)
    run = remixer(model=model, references=references, optimizer=NGD(steps=2, lr=0.05), selector=selector)
    other = remixer(model=model, references=references, optimizer=NGD(steps=1, lr=0.2), selector=Fixed(n=3, experts=8))
    broken = remixer(model=model, references=references, optimizer=Broken(), selector=selector)
    routings = {q.id: moved(model.pathway(q.question), seed=i) for i, q in enumerate(ASKED)}

    def fails(q):
        with pytest.raises(PluginError, match=r"ZeroDivisionError in optimize at .*: on purpose"):
            broken.answer([q])
        return [0.0]

    return {
        "answer": lambda q: run.answer([q])[0].scores,
        "another answer": lambda q: other.answer([q])[0].scores,
        "scores": lambda q: model.score_choices(q).tolist(),
        "routed scores": lambda q: model.score_choices(q, routing=routings[q.id]).tolist(),
        "ruled scores": lambda q: model.score_choices(q, routing=rule_named("top-k:1")).tolist(),
        "logits": lambda q: model.forward(q.question, routing=routings[q.id]).logits[0, -1].tolist(),
        "plain logits": lambda q: model.forward(q.question).logits[0, -1].tolist(),
        "pathway": lambda q: model.pathway(q.question).weights.flatten().tolist(),
        "generation": lambda q: list(
            map(float, map(ord, model.generate(q.question, routing=routings[q.id], max_new_tokens=4, do_sample=False)))
        ),
        "failure": fails,
    }


def asked():
    """Calls in an order that is mixed and the same each time."""
    order = random.Random(0)
    kinds = ["answer", "another answer", "scores", "routed scores", "logits", "plain logits", "pathway", "generation"]
    kinds += ["ruled scores", "failure"]
    return [(order.choice(kinds), order.choice(ASKED)) for _ in range(ANSWERS)]


def test_eight_threads_answer_as_one(model, work):
    calls = asked()
    before = {name: tensor.clone() for name, tensor in model.model.state_dict().items()}
    logits = model.model(torch.tensor([[5, 6, 7, 8]])).logits
    alone = {key: work[key[0]](key[1]) for key in dict.fromkeys(calls)}
    model._states.clear()
    with ThreadPoolExecutor(THREADS) as pool:
        together = list(pool.map(lambda call: work[call[0]](call[1]), calls))
    for call, found in zip(calls, together, strict=True):
        torch.testing.assert_close(torch.tensor(found), torch.tensor(alone[call]), atol=1e-4, rtol=0, msg=str(call))
    assert_pristine(model.model)
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.model.state_dict().items())
    assert torch.equal(model.model(torch.tensor([[5, 6, 7, 8]])).logits, logits), "bit for bit"


def test_a_server_that_answers_in_threads(model):
    """``asyncio.to_thread``, as web frameworks call what blocks."""
    c3po = Optimizer(model, reference_set("olmoe"), optimizer={"name": "ngd", "steps": 2}, embedder=HashEmbedder(),
                     selector={"name": "fixed", "n": 2, "experts": 6})  # fmt: skip
    alone = [c3po.answer(q.question, q.choices).scores for q in ASKED]

    async def serve():
        calls = [asyncio.to_thread(c3po.answer, q.question, q.choices) for q in ASKED]
        return await asyncio.gather(*calls)

    for one, other in zip(asyncio.run(serve()), alone, strict=True):
        torch.testing.assert_close(torch.tensor(one.scores), torch.tensor(other), atol=1e-4, rtol=0)
    assert_pristine(model.model)


def test_whoever_calls_the_model_itself_gets_its_own_routing(model, work):
    """Past this package nobody waits, at whatever point of another thread's call."""
    ids = torch.tensor([[5, 6, 7, 8]])
    routes, other = read_routing(model, {"input_ids": ids}).experts, ThreadPoolExecutor(1)
    expected = model.model(ids).logits
    seen = []

    def see(routing):
        seen.append(other.submit(lambda: model.model(ids).logits).result(timeout=20))

    for kind in ("answer", "ruled scores", "logits", "generation"):
        with watching(model, see):
            work[kind](ASKED[0])
    with replaying(model, routes.flip(-2)), watching(model, see):
        assert not torch.equal(model.model(ids).logits, expected)
    assert len(seen) > 20 and all(torch.equal(found, expected) for found in seen)
