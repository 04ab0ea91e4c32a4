"""What works for a family of MoE models, tried on a tiny random one; run as a script, it writes the table, or
rows of it: of the newest transformers that it was run with, and how many families work with each.

Every check is against plain full forward passes of the transformers model, without cache, packing or batches.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import cache
from pathlib import Path

import pytest
import torch
import transformers
from torch import Tensor
from transformers import CONFIG_MAPPING
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

from c3po_adaptive.errors import C3POError, SettingError
from c3po_adaptive.models.family_table import ABILITIES, table
from c3po_adaptive.models.provenance import own_pathway
from c3po_adaptive.models.routed import RoutedModel
from c3po_adaptive.routing.intercept import intercepted
from c3po_adaptive.routing.modules import modules_of
from c3po_adaptive.routing.packing import layout_for
from c3po_adaptive.routing.rules import PathwayRule
from c3po_adaptive.routing.states import State
from c3po_adaptive.routing.styles import Change
from c3po_adaptive.testing import tiny_moe, tiny_tokenizer
from c3po_adaptive.types import Pathway, Prompt

READ_IMAGES = (
    *("deepseek_ocr2", "glm4v_moe", "glm5_next", "hy_v4_vl", "mistral_large4", "muse_spark", "qwen3_omni_moe_thinker"),
    *("qwen3_vl_moe", "step3p7", "unlimited_ocr"),
)
"""Families without a causal language model beside the one that reads images, too."""
TABLE = Path(__file__).parents[3] / "c3po_adaptive" / "models" / "families.json"
CLOSE = 1e-4
SHAPES = [(9, (2, 1, 3)), (14, (1, 4)), (1, (2, 2)), (5, (1, 1, 1)), (23, (1, 1)), (12, (1, 1, 1)), (1, (1, 1))]
"""Tokens of a prompt and of its options: longer and shorter than windows; some as letters are."""
PROMPTS = [
    Prompt(
        tuple(range(5, 5 + n)),
        tuple(tuple((7 * n + 3 * i + 11 * j) % 110 + 5 for i in range(m)) for j, m in enumerate(options)),
        (1.0,) * len(options),
    )
    for n, options in SHAPES
]


NO_DISTRIBUTION = ("deepseek_v4", "phimoe")
"""Their weights do not follow from one distribution over experts: `pathway: router` refuses them."""


@cache
def moe_families() -> list[str]:
    """Model types of transformers' causal language models whose configuration speaks of experts; deepseek; and those of
    ``READ_IMAGES``."""
    found = []
    for family in MODEL_FOR_CAUSAL_LM_MAPPING_NAMES:
        try:
            config = CONFIG_MAPPING[family]()
            if config.get_text_config() is not config:  # with images or sound; its text model has a type of its own
                continue
        except Exception:  # no defaults of its own: an encoder-decoder or a composite
            continue
        parts = [config, *(v for v in vars(config).values() if hasattr(v, "to_dict"))]
        if any("experts" in name and "implementation" not in name for part in parts for name in vars(part)):
            found.append(family)
    return sorted({*found, "deepseek", *(family for family in READ_IMAGES if family in CONFIG_MAPPING)})


def model_of(family: str, **settings: object) -> RoutedModel:
    return RoutedModel(tiny_moe(family, **settings), tiny_tokenizer(), name=family)


def moved(model: RoutedModel, own: Tensor, seed: int = 0, layers: int = 2) -> Pathway:
    """Random weights on all experts of the last MoE layers, the mass of each kept; ``own [B, L, E]``."""
    noise = torch.randn(own.shape, generator=torch.Generator().manual_seed(seed))
    weights = own.clone()
    last = slice(max(0, own.shape[1] - layers), None)
    usable = torch.arange(own.shape[-1]) < model.sites[0].mixable
    random = (2 * noise).masked_fill(~usable, -torch.inf).softmax(-1)
    weights[:, last] = (random * own.sum(-1, keepdim=True))[:, last]
    return Pathway(weights, own, model.layers)


@contextmanager
def along(model: RoutedModel, pathway: Pathway, last: int, tokens: int) -> Iterator[None]:
    """One sequence of so many tokens routed by ``pathway [1, L, E]``: ω at ``last``, Δω behind it."""
    place = torch.arange(tokens)
    replaced, shifted = (torch.where(where, 0, -1) for where in (place == last, place > last))
    rule = PathwayRule(pathway.weights, pathway.own, replaced, shifted, pathway.changed())
    with intercepted(model.sites, rule):
        yield


def naive(model: RoutedModel, state: State, pathway: Pathway | None = None) -> Tensor:
    """Scores of a question's options ``[C]``, one full forward each."""
    start, scores = len(state.prompt.ids), []
    for option in state.prompt.options:
        ids = torch.tensor([list(state.prompt.ids + option)])
        if pathway is None:
            logits = model.model(input_ids=ids, use_cache=False).logits[0]
        else:
            with along(model, pathway, start - 1, ids.shape[1]):
                logits = model.model(input_ids=ids, use_cache=False).logits[0]
        scores.append(logits[start - 1 : -1].float().log_softmax(-1)[range(len(option)), list(option)].sum())
    return torch.stack(scores)


@torch.no_grad()
def reads(model: RoutedModel) -> None:
    """A pathway put back changes nothing; it has the mass that the router gave it."""
    ids = torch.tensor([PROMPTS[1].ids])
    base = model.model(input_ids=ids, use_cache=False).logits
    with intercepted(model.sites, lambda _, index, weights: Change(None, index.flip(-1), weights.flip(-1))):
        again = model.model(input_ids=ids, use_cache=False).logits
    torch.testing.assert_close(again, base, atol=CLOSE, rtol=CLOSE)
    state = model.prefill([PROMPTS[1]])[0]
    own, made = state.own, state.gate.weights(state.router)
    if model.name in NO_DISTRIBUTION:
        with pytest.raises(SettingError, match="top-k of a distribution"):
            own_pathway([state], model.layers, "last", "router")
    else:
        torch.testing.assert_close(made, own, atol=CLOSE, rtol=CLOSE)
    assert ((own > 0).sum(-1) <= model.sites[0].top_k).all()
    assert (own.sum(-1) > 0).all()


@torch.no_grad()
def replaces(model: RoutedModel) -> None:
    """Another pathway changes what comes from its token on, and nothing before; afterwards all is as it was."""
    ids = torch.tensor([PROMPTS[1].ids])
    last = ids.shape[1] - 1
    base = model.model(input_ids=ids, use_cache=False).logits
    pathway = moved(model, model.prefill([PROMPTS[1]])[0].own[None])
    with along(model, pathway, last, last + 1):
        other = model.model(input_ids=ids, use_cache=False).logits
    assert (other - base)[:, -1].abs().max() > 1e-5
    torch.testing.assert_close(other[:, :-1], base[:, :-1], atol=CLOSE, rtol=CLOSE)
    try:
        with intercepted(model.sites, _failing):
            model.model(input_ids=ids, use_cache=False)
    except ZeroDivisionError:
        pass
    assert torch.equal(model.model(input_ids=ids, use_cache=False).logits, base)


def _failing(*_: object) -> None:
    raise ZeroDivisionError


@torch.no_grad()
def recomputes(model: RoutedModel) -> None:
    """Tails give what full forward passes give, of questions side by side, with the model's pathway and another."""
    states = model.prefill(PROMPTS)
    pathway = moved(model, torch.stack([s.own for s in states]))
    base, other = model.choice_scores(states), model.choice_scores(states, pathway)
    for i, state in enumerate(states):
        torch.testing.assert_close(base[i], naive(model, state), atol=CLOSE, rtol=CLOSE)
        torch.testing.assert_close(other[i], naive(model, state, pathway[[i]]), atol=CLOSE, rtol=CLOSE)
        assert (other[i] - base[i]).abs().max() > 1e-5


def differentiates(model: RoutedModel) -> None:
    """The slope along a random direction of all experts is that of finite differences.

    At the prompt's last token, that is: behind it Δω is clipped at zero, and routers choose anew, in steps. Where
    options are single tokens, nothing is behind it, and all layers may move.
    """
    _slope(model, PROMPTS[:2], layers=2)
    _slope(model, [PROMPTS[3], PROMPTS[5]], layers=len(model.sites))


def _slope(model: RoutedModel, prompts: list[Prompt], layers: int) -> None:
    states = model.prefill(prompts)
    pathway = replace(moved(model, torch.stack([s.own for s in states]), layers=layers), scope="last")
    direction = torch.randn(pathway.own.shape, generator=torch.Generator().manual_seed(1))
    direction *= pathway.changed().unsqueeze(-1) & (torch.arange(pathway.own.shape[-1]) < model.sites[0].mixable)
    tails = model.tail_scores(states, pathway)

    def total(weights: Tensor) -> Tensor:
        scores = tails(weights)
        return scores[scores.isfinite()].sum()

    free = pathway.weights.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(total(free), free)
    slope, step = (gradient * direction).sum(), 1e-3
    with torch.no_grad():
        ends = [total(pathway.weights + sign * step * direction) for sign in (1, -1)]
    torch.testing.assert_close(slope, (ends[0] - ends[1]) / (2 * step), atol=2e-2, rtol=2e-2)


@torch.no_grad()
def generates(model: RoutedModel) -> None:
    """Greedy continuation with a cache is that of full forward passes, with padding on the left; it is no change of the
    model, so that what is kept in memory is found again."""
    texts = ["Boats float on", "So"]
    pathway = moved(model, model.pathway(texts, kind="weights").own)
    together = model.generate(texts, pathway, max_new_tokens=4, min_new_tokens=4, do_sample=False)
    for i, text in enumerate(texts):
        ids = list(model.encode_text(text).ids)
        last, new = len(ids) - 1, []
        for _ in range(4):
            with along(model, pathway[[i]], last, len(ids)):
                logits = model.model(input_ids=torch.tensor([ids]), use_cache=False).logits[0, -1]
            logits[model.tokenizer.eos_token_id] = -torch.inf
            new.append(int(logits.argmax()))
            ids.append(new[-1])
        assert together[i] == model.tokenizer.decode(new, skip_special_tokens=True), (together[i], new)
    assert model.snapshot.holds(modules_of(model.model))


CHECKS: dict[str, Callable[[RoutedModel], None]] = {
    "read": reads,
    "replace": replaces,
    "tail": recomputes,
    "gradient": differentiates,
    "generation": generates,
}


assert tuple(CHECKS) == ABILITIES


def checked() -> tuple[Callable[[RoutedModel], None], ...]:
    return tuple(CHECKS.values())


def tried(family: str) -> dict[str, object]:
    """The family's row: for each ability True, or why not."""
    try:
        tiny = tiny_moe(family)
        tiny(input_ids=torch.tensor([[5, 6, 7]]), use_cache=False)
    except Exception as error:
        return {"untried": f"no tiny model of it could be run: {error!r}"[:200]}
    try:
        model = RoutedModel(tiny, tiny_tokenizer(), name=family)
    except C3POError as error:
        return {"refused": str(error)}
    row: dict[str, object] = {"layout": layout_for(model.model, PROMPTS[0])}
    for name, check in CHECKS.items():
        try:
            check(model)
            row[name] = True
        except Exception as error:
            row[name] = f"{type(error).__name__}: {error}".partition("\n")[0][:200]
    return row


def main() -> None:
    known, release = table(), transformers.__version__
    rows = known["families"] if sys.argv[1:] else {}
    for family in sys.argv[1:] or moe_families():
        rows[family] = tried(family)
        print(family, rows[family], flush=True)
    work = sum(all(row.get(ability) is True for ability in ABILITIES) for row in rows.values())
    every = known["releases"] | {release: work}
    releases = {name: every[name] for name in sorted(every, key=lambda name: [*map(int, name.split("."))])}
    newest = [*releases][-1]
    found = {"transformers": newest, "releases": releases}
    found["families"] = dict(sorted(rows.items())) if release == newest else known["families"]
    TABLE.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    torch.set_num_threads(1)
    main()
