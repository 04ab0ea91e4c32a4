"""The figures of the model card: what the embedded model lost against the dense one, and what a pathway can steer."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from scipy.stats import bootstrap
from torch import Tensor
from transformers import LlamaForCausalLM, PreTrainedModel, PreTrainedTokenizerBase

from c3po_adaptive.analysis.statistics import compare
from c3po_adaptive.models.loading import load_moe_model
from c3po_adaptive.models.routed import RoutedModel
from c3po_adaptive.references.embedding import default_embedder
from c3po_adaptive.registry import default_registry
from c3po_adaptive.remixing.remixer import Remixer
from c3po_adaptive.routing.intercept import recorded
from c3po_adaptive.tasks.formats import Cloze
from c3po_adaptive.tasks.question_files import demo_questions, load_questions
from c3po_adaptive.types import Question

from .. import corpus

ROWS = 256


def figures(
    dense: LlamaForCausalLM, tokenizer: PreTrainedTokenizerBase, sets: list[Path], limit: int, known: dict[str, Any]
) -> Iterator[dict[str, Any]]:
    """Everything the card reports, part by part on top of what is ``known``; intervals are 95 %."""
    moe = load_moe_model("smollm2-moe-carved", dtype="float32")
    rows = corpus.pack(corpus.independent(), tokenizer, 128, ROWS, seed=0)
    parts: dict[str, Callable[[], Any]] = {
        "nll": lambda: likelihood(dense, moe.model, rows),
        "layers": lambda: routing(moe, rows[:64]),
        "accuracy": lambda: {p.stem: accuracy(dense, moe, load_questions(p, limit=limit)) for p in sets},
        "oracle": lambda: oracle(moe, demo_questions("validation")),
    }
    for name, part in parts.items():
        if name not in known:
            known = known | {name: part()}
            yield known


@torch.no_grad()
def likelihood(dense: PreTrainedModel, moe: PreTrainedModel, rows: Tensor) -> dict[str, Any]:
    """Nats per token on independent real text, of both models, and the gap with its interval over rows."""
    each = np.array([[_nll(m, part) for part in rows.split(1)] for m in (dense, moe)])
    gap = each[1] - each[0]
    low, high = bootstrap((gap,), np.mean, rng=np.random.default_rng(0)).confidence_interval
    return {
        "tokens": rows.numel(),
        "dense": each[0].mean(),
        "moe": each[1].mean(),
        "gap": gap.mean(),
        "ci": [low, high],
    }


def _nll(model: PreTrainedModel, rows: Tensor) -> float:
    logits = model(rows, use_cache=False).logits[:, :-1].flatten(0, 1)
    return F.cross_entropy(logits.float(), rows[:, 1:].flatten()).item()


@torch.no_grad()
def routing(moe: RoutedModel, rows: Tensor) -> list[dict[str, float]]:
    """Load entropy, sharpness of the router, and routed share of each MoE layer.

    The share is the median over tokens of |routed output|² / |whole output|².
    """
    routed: dict[int, Tensor] = {}
    whole: dict[int, Tensor] = {}
    hooks = []
    for i, site in enumerate(moe.sites):
        block = moe.model.get_decoder().layers[site.layer].mlp
        hooks.append(site.experts.register_forward_hook(lambda m, a, o, i=i: routed.update({i: o.norm(dim=-1)})))
        hooks.append(block.register_forward_hook(lambda m, a, o, i=i: whole.update({i: o.flatten(0, 1).norm(dim=-1)})))
    with recorded(moe.sites) as recording:
        moe.model(rows, use_cache=False)
    for hook in hooks:
        hook.remove()
    found = []
    for i, site in enumerate(moe.sites):
        weights, probabilities = recording.weights[i], recording.probabilities[i]
        load = (weights > 0).float().mean(0) / site.top_k
        found.append(
            {
                "layer": site.layer,
                "routed_share": (routed[i] / whole[i]).square().median().item(),
                "load_entropy": (-(load * load.clamp_min(1e-12).log()).sum() / np.log(site.n_experts)).item(),
                "largest_weight": weights.amax(1).mean().item(),
                "smallest_used_weight": weights.topk(site.top_k).values[:, -1].mean().item(),
                "top20_mass": probabilities.topk(20).values.sum(1).mean().item(),
            }
        )
    return found


def accuracy(dense: LlamaForCausalLM, moe: RoutedModel, questions: list[Question]) -> dict[str, Any]:
    """Cloze accuracy of both models on the same questions, in points, and the paired difference."""
    ours = moe.score_choices(questions)
    theirs = [_scores(dense, moe, q) for q in questions]
    records = [
        [
            {"id": q.id, "dataset": "set", "arm": arm, "seed": 0, "correct": int(s.argmax()) == q.answer}
            | {"cost": {"total": 1.0}, "scores": s.tolist(), "answer": q.answer}
            for q, s in zip(questions, scores, strict=True)
        ]
        for arm, scores in (("moe", ours), ("dense", theirs))
    ]
    c = compare(records[0], records[1], seed=0)
    share = [100 * float(np.mean([r["correct"] for r in part])) for part in records]
    return {"n": c.n, "moe": share[0], "dense": share[1], "difference": c.difference, "ci": [c.ci_low, c.ci_high]}


@torch.no_grad()
def _scores(dense: LlamaForCausalLM, moe: RoutedModel, question: Question) -> Tensor:
    prompt = moe.encode(question, Cloze())
    scores = []
    for option, length in zip(prompt.options, prompt.lengths, strict=True):
        logits = dense(torch.tensor([prompt.ids + option])).logits[0, len(prompt.ids) - 1 : -1].float()
        likelihoods = logits.log_softmax(-1).gather(1, torch.tensor(option)[:, None])
        scores.append(likelihoods.sum() / length)
    return torch.stack(scores)


def oracle(moe: RoutedModel, questions: list[Question]) -> list[dict[str, Any]]:
    """How far the right answer's negative log-likelihood falls, by the layers that the oracle may re-mix."""
    known = default_registry()
    settings: dict[str, dict[str, Any]] = {str(layer): {"layers": [layer]} for layer in moe.layers}
    settings |= {"last five": {"n": 5}, "first five": {"layers": "first"}, "all": {"layers": "all"}}
    found = []
    for name, setting in settings.items():
        specs = {"optimizer": "oracle", "kernel": "gaussian", "retriever": "faiss-knn"}
        strategies = known.strategies(specs | {"selector": {"name": "fixed", **setting}})
        remixer = Remixer(moe, None, strategies, default_embedder())  # nothing is retrieved for the oracle
        answers = [a for i in range(0, len(questions), 16) for a in remixer.answer(questions[i : i + 16])]
        pairs = list(zip(questions, answers, strict=True))
        before = np.array([_gold(a.base_scores, q.answer) for q, a in pairs])
        after = np.array([_gold(a.scores, q.answer) for q, a in pairs])
        found.append(
            {
                "layers": name,
                "nll_change": (after - before).mean(),
                "flips_up": sum(a.choice == q.answer != a.base_choice for q, a in pairs),
                "flips_down": sum(a.base_choice == q.answer != a.choice for q, a in pairs),
                "n": len(pairs),
            }
        )
    return found


def _gold(scores: tuple[float, ...], answer: int | None) -> float:
    if answer is None:
        raise SystemExit("Expected questions with a right answer, got one without; leave it out.")
    return float(-torch.tensor(scores).log_softmax(0)[answer])
