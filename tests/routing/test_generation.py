"""Generation along a pathway, against token-by-token full forwards without a cache."""

from dataclasses import replace

import pytest
import torch
from routing.naive import FAMILIES, SCOPES, along, assert_pristine, logits, moved, shared_model

from c3po_adaptive.errors import SettingError

TEXTS = ["Which object can float on water?", "Wood"]
NEW = 8


@pytest.fixture(params=FAMILIES)
def model(request):
    return shared_model(request.param)


def naive(model, text, pathway, **how):
    """Greedy tokens, a full forward each."""
    ids = list(model.encode_text(text).ids)
    edit = along(pathway.weights, pathway.own, len(ids) - 1, scope=pathway.scope)
    start = len(ids)
    with torch.no_grad():
        while len(ids) < start + NEW and (len(ids) == start or ids[-1] != model.tokenizer.eos_token_id):
            ids.append(int(logits(model.model, ids, edit)[-1].argmax()))
    return model.tokenizer.decode(ids[start:], skip_special_tokens=True)


def test_without_routing_it_is_transformers_own(model):
    inputs = model.tokenizer(TEXTS, return_tensors="pt", padding=True)
    tokens = model.model.generate(**inputs, max_new_tokens=NEW, do_sample=False)[:, inputs["input_ids"].shape[1] :]
    expected = model.tokenizer.batch_decode(tokens, skip_special_tokens=True)
    assert model.generate(TEXTS, max_new_tokens=NEW, do_sample=False) == expected
    assert model.generate(TEXTS[1], max_new_tokens=NEW, do_sample=False) == naive(
        model, TEXTS[1], model.pathway(TEXTS[1])
    )


def test_own_pathway_changes_nothing(model):
    assert model.generate(TEXTS, model.pathway(TEXTS), max_new_tokens=NEW) == model.generate(TEXTS, max_new_tokens=NEW)


@pytest.mark.parametrize("scope", SCOPES)
@pytest.mark.parametrize("seed", [0, 1])
def test_changed_pathways_act(model, scope, seed):
    pathways = [replace(moved(model.pathway(t), seed=seed), scope=scope) for t in TEXTS]
    expected = [naive(model, t, p) for t, p in zip(TEXTS, pathways, strict=True)]
    assert model.generate(TEXTS, pathways, max_new_tokens=NEW, do_sample=False) == expected
    assert model.generate(TEXTS[0], pathways[0], max_new_tokens=NEW, do_sample=False) == expected[0]
    assert expected != model.generate(TEXTS, max_new_tokens=NEW, do_sample=False)
    assert_pristine(model.model)


def test_every_beam_starts_along_the_pathway(model):
    """The first step of a beam search is greedy."""
    pathways = [moved(model.pathway(t), layers=(0, 1, 2), seed=3) for t in TEXTS]
    greedy = model.generate(TEXTS, pathways, max_new_tokens=1, do_sample=False)
    base = model.generate(TEXTS, max_new_tokens=1, do_sample=False)
    assert greedy != base
    assert model.generate(TEXTS, pathways, max_new_tokens=1, num_beams=2, do_sample=False) == greedy
    longer = model.generate(TEXTS, pathways, max_new_tokens=NEW, num_beams=2, do_sample=False)
    assert longer != model.generate(TEXTS, max_new_tokens=NEW, num_beams=2, do_sample=False)


@pytest.mark.parametrize("option", [{"use_cache": False}, {"prefill_chunk_size": 2}])
def test_what_the_rule_cannot_follow_is_refused(model, option):
    with pytest.raises(SettingError, match=r"one token per step.*use_cache=True"):
        model.generate(TEXTS, moved(model.pathway(TEXTS)), max_new_tokens=2, do_sample=False, **option)
    assert_pristine(model.model)


def test_model_is_restored_after_an_exception(model):
    def stop(ids, scores, **kwargs):
        raise ZeroDivisionError

    before = model.generate(TEXTS, max_new_tokens=NEW, do_sample=False)
    pathway = moved(model.pathway(TEXTS))
    with pytest.raises(ZeroDivisionError):
        model.generate(TEXTS, pathway, max_new_tokens=NEW, stopping_criteria=[stop])
    assert_pristine(model.model)
    assert model.generate(TEXTS, max_new_tokens=NEW, do_sample=False) == before
