"""Generation along a pathway, against token-by-token full forwards without a cache."""

from dataclasses import replace

import pytest
import torch
from cachetools import LRUCache
from routing.naive import FAMILIES, SCOPES, along, assert_pristine, logits, moved, shared_model
from routing.toys import questions
from transformers import GenerationConfig

from c3po_adaptive import rule_named
from c3po_adaptive.errors import DataError, SettingError
from c3po_adaptive.models.writing import SPARE
from c3po_adaptive.routing.generation import FirstLine
from c3po_adaptive.types import Pathway, Prompt

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
        model, TEXTS[1], model.pathway(TEXTS[1], kind="weights")
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


class TestWritten:
    """Answers that the model writes: one line, greedily, against full forwards."""

    @staticmethod
    def prompts(model):
        return [model.encode(question) for question in questions(3)]

    @staticmethod
    def line(model, prompt, pathway):
        """A full forward a token, as long as an answer may be."""
        ids, start = list(prompt.ids), len(prompt.ids)
        edit = along(pathway.weights, pathway.own, start - 1, scope=pathway.scope)
        with torch.no_grad():
            for _ in range(max(map(len, prompt.options)) + SPARE):
                ids.append(int(logits(model.model, ids, edit)[-1].argmax()))
                text = model.tokenizer.decode(ids[start:], skip_special_tokens=True)
                if ids[-1] == model.tokenizer.eos_token_id or "\n" in text.lstrip():
                    break
        return text.strip().partition("\n")[0].strip()

    @pytest.mark.parametrize("scope", SCOPES)
    def test_go_on_from_the_pathway(self, model, scope):
        prompts = self.prompts(model)
        own = torch.stack([state.own for state in model.prefill(prompts)])
        pathway = replace(moved(Pathway(own, own, model.layers)), scope=scope)
        pathway.weights[1] = pathway.own[1]  # one that changes nothing takes what is kept
        expected = [self.line(model, p, pathway[i]) for i, p in enumerate(prompts)]
        assert [one.text for one in model.written(prompts, pathway)] == expected
        plain = [one.text for one in model.written(prompts)]
        assert plain[1] == expected[1]
        assert plain != expected
        assert_pristine(model.model)

    def test_a_rule_acts_at_every_token(self):
        model = shared_model("olmoe")
        prompts, rule = self.prompts(model), rule_named("top-k:1")
        found = [one.text for one in model.written(prompts, rule)]
        most = [max(map(len, p.options)) + SPARE for p in prompts]
        texts = [model.tokenizer.decode(p.ids) for p in prompts]
        for text, line, n in zip(texts, found, most, strict=True):
            longer = model.generate(text, rule, max_new_tokens=n, do_sample=False)
            assert line == longer.strip().partition("\n")[0].strip()
        assert found != [one.text for one in model.written(prompts)]

    def test_each_costs_its_own_tokens(self):
        model = shared_model("olmoe")
        (short, *_), (long, *_) = self.prompts(model), self.prompts(model)
        long = replace(short, options=(short.options[0] * 4,))
        one, other = model.written([short, long])
        assert one.work.flops < other.work.flops
        assert other.text.startswith(one.text)
        assert model.written([short])[0] is one

    def test_what_is_kept_is_found_though_new_ones_take_its_place(self, monkeypatch):
        model = shared_model("olmoe")
        first, *others = self.prompts(model)
        expected = [one.text for one in model.written([first, *others])]
        monkeypatch.setattr(model, "_written", LRUCache(2))
        model.written([first])
        assert [one.text for one in model.written([first, *others])] == expected

    def test_a_full_context_is_refused(self):
        model = shared_model("olmoe")
        with pytest.raises(DataError, match=f"room to write in the model's context of {model.max_length} tokens, got"):
            model.written([Prompt((7,)), Prompt((7,) * model.max_length)])

    def test_nothing_is_written_after_nothing(self):
        assert shared_model("olmoe").written([], rule_named("top-k:1")) == []


def stop_at(texts, most=(9, 9), ends=(7,)):
    """The lines of two sequences, of which each step says one token: a character of its text."""
    line = FirstLine(lambda rows: ["".join(map(chr, row)) for row in rows], most, ends)
    for step in zip(*texts, strict=True):
        ended = line(torch.tensor([[0, ord(character)] for character in step]), None)
    return line.lines, [len(tokens) for tokens in line.tokens], ended.tolist()


def test_a_line_ends_with_what_says_something():
    assert stop_at(["\n\n a\nbc", "......."]) == (["a", "......."], [5, 7], [True, False])
    assert stop_at(["       ", "ab\x07cdef"]) == (["", "ab\x07"], [7, 3], [False, True])
    assert stop_at(["       ", "abcdefg"], most=(2, 4)) == (["", "abcd"], [2, 4], [True, True])


def test_past_the_context_nothing_is_written(monkeypatch):
    """Whoever asks for it: an option, a configuration beside it, or the model's own."""
    model = shared_model("olmoe")
    length, room = len(model.encode_text(TEXTS[0]).ids), model.max_length - len(model.encode_text(TEXTS[0]).ids)
    said = rf"generate 1 to {room} tokens behind a text of {length}, as the model's context has {model.max_length}"
    asked = {"max_new_tokens": room + 1}, {"max_length": model.max_length + 1}, {"max_new_tokens": 10**30}
    for options in (*asked, *({"generation_config": GenerationConfig(**one)} for one in asked)):
        with pytest.raises(DataError, match=said):
            model.generate(TEXTS[0], **options)
    for one in asked:
        monkeypatch.setattr(model.model, "generation_config", GenerationConfig(**one))
        with pytest.raises(DataError, match=said):
            model.generate(TEXTS[0], max_length=None)
        model.generate(TEXTS[0], max_new_tokens=1)
    monkeypatch.undo()
    model.generate(TEXTS[0], do_sample=False, max_length=length + 1)
    model.generate("a " * ((model.max_length - 3) // 2), max_length=None)
