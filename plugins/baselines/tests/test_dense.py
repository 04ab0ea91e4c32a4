"""A dense model in the mixture's place."""

from dataclasses import replace

import pytest
import torch
from answerers.tuning import ASKED, Picture, context_of, scores
from c3po_baselines import Dense
from routing.naive import choice_scores
from transformers import AutoModelForCausalLM, LlamaConfig, LlamaForCausalLM

from c3po_adaptive.errors import ModelError, SettingError
from c3po_adaptive.models.names import EMBEDDED
from c3po_adaptive.testing import AnswererContract, tiny_tokenizer


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A dense checkpoint with the toy context's tokenizer."""
    path = tmp_path_factory.mktemp("dense")
    config = LlamaConfig(
        vocab_size=128, hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=4
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        LlamaForCausalLM(config).save_pretrained(path)
    tiny_tokenizer().save_pretrained(path)
    return path


class TestContract(AnswererContract):
    @pytest.fixture
    def answerer(self, folder):
        return Dense(model=str(folder))


def test_scores_are_those_of_the_dense_model(folder):
    context = context_of()
    before = Picture(context.model)
    answers = Dense(model=str(folder)).prepare(context).answer(ASKED)
    dense = AutoModelForCausalLM.from_pretrained(folder)
    with torch.no_grad():
        for answer, prompt in zip(answers, context.prompts(ASKED), strict=True):
            expected = choice_scores(dense, prompt)
            torch.testing.assert_close(torch.tensor(answer.scores), expected, atol=1e-5, rtol=0)
    assert [a.base_scores for a in answers] == scores(context.plain(ASKED))
    assert Picture(context.model) == before


def test_it_costs_what_the_dense_model_takes(folder):
    context = context_of()
    (answer,) = Dense(model=str(folder)).prepare(context).answer(ASKED[:1])
    (prompt,) = context.prompts(ASKED[:1])
    tokens = len(prompt.ids) + sum(len(option) - 1 for option in prompt.options)
    per_token = 2 * 2 * (4 * 32 * 32 + 3 * 32 * 48)
    assert 1 < answer.cost.total / (tokens * per_token) < 1.7, "attention and head come on top"


def test_another_tokenizer_is_refused(folder, tmp_path):
    tokenizer = tiny_tokenizer()
    tokenizer.add_tokens(["boat"])
    AutoModelForCausalLM.from_pretrained(folder).save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    with pytest.raises(SettingError, match=r"to have the run's tokenizer, got .* with another \(\d+ tokens"):
        Dense(model=str(tmp_path)).prepare(context_of())


def test_models_that_are_not_there_or_not_whole(folder, tmp_path):
    with pytest.raises(ModelError, match=r"Could not load .*nowhere.*\n?Expected a causal language model"):
        Dense(model=str(tmp_path / "nowhere")).prepare(context_of())
    config = LlamaConfig.from_pretrained(folder, num_hidden_layers=3)
    AutoModelForCausalLM.from_pretrained(folder).save_pretrained(tmp_path)
    config.save_pretrained(tmp_path)
    tiny_tokenizer().save_pretrained(tmp_path)
    with pytest.raises(ModelError, match=r"do not fit its configuration: model\.layers\.2"):
        Dense(model=str(tmp_path)).prepare(context_of())


def test_only_the_embedded_model_has_a_parent_of_its_own(monkeypatch, folder):
    with pytest.raises(
        SettingError,
        match=r"for only smollm2-moe has .* own, got none for 'olmoe'",
    ):
        Dense().prepare(context_of())
    with pytest.raises(SettingError, match="got 3; name a Hub id or a folder"):
        Dense(model=3)
    loaded = AutoModelForCausalLM.from_pretrained(folder), tiny_tokenizer()
    monkeypatch.setattr("c3po_adaptive.models.dense_models.load_dense", lambda *_: loaded)
    monkeypatch.setattr("c3po_adaptive.models.dense_models.fetch", lambda folder: folder)
    context = context_of()
    named = replace(context.model, name=EMBEDDED)
    answers = Dense().prepare(replace(context, model=named)).answer(ASKED)
    assert scores(answers) != scores(context.plain(ASKED))


@pytest.mark.slow
def test_the_embedded_models_parent(dense_weights):
    """Without what its experts add, the embedded model answers as its parent."""
    from c3po_adaptive import Question, load_moe_model

    question = Question("q", "Which object can float on water?", ("a stone", "a wooden boat"))
    model = load_moe_model(EMBEDDED)
    for name, parameter in model.model.named_parameters():
        if name.endswith("experts.down_proj"):
            parameter.data.zero_()
    (answer,) = Dense().prepare(replace(context_of(), model=model)).answer([question])
    assert answer.choice == 1
    assert answer.scores == pytest.approx(answer.base_scores, abs=1e-3)
