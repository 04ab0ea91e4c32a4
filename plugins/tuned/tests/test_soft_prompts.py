"""Virtual tokens and prefixes: against real tokens, against PEFT's own forward pass, and where they cannot be."""

from dataclasses import replace

import pytest
import torch
from answerers.tuning import ASKED, context_of, learned, scores
from c3po_tuned import PrefixTuning, PromptTuning
from routing.naive import choice_scores

from c3po_adaptive.errors import DataError, ModelError, SettingError
from c3po_adaptive.models.routed import RoutedModel
from c3po_adaptive.routing.whole_prompts import WholePrompts
from c3po_adaptive.testing import tiny_moe, tiny_tokenizer
from c3po_adaptive.types import Question

PROMPT = PromptTuning(epochs=2, tokens=4, lr=5e-2)
PREFIX = PrefixTuning(epochs=2, tokens=4, lr=5e-2)
EACH = pytest.mark.parametrize("strategy", [PROMPT, PREFIX], ids=lambda s: s.name)


def tuning_of(strategy, context):
    return strategy.tuning(context.model, context.prompts(context.references.questions))


def scored(tuning, context, prompts):
    with torch.no_grad(), tuning.placed() as opening:
        return WholePrompts(context.model.model, context.model.flops).scores(prompts, opening)


@EACH
@pytest.mark.parametrize("family", ["olmoe", "qwen2_moe", "deepseek", "mixtral", "gpt_oss"])
@torch.no_grad()
def test_they_begin_as_real_tokens(strategy, family):
    """Before it is trained, a prompt scores as it does behind the first tokens of the references' prompts."""
    context = context_of(family)
    first, prompts = context.prompts(context.references.questions[:1])[0].ids[:4], context.prompts(ASKED)
    for prompt, row in zip(prompts, scored(tuning_of(strategy, context), context, prompts), strict=True):
        expected = choice_scores(context.model.model, replace(prompt, ids=first + prompt.ids))
        torch.testing.assert_close(row[: len(expected)], expected, atol=1e-4, rtol=0)


class Recorded:
    """PEFT's model of a strategy, whose own forward pass is what scores are held against."""

    def __init__(self, monkeypatch, strategy):
        self.made, wrapped = [], type(strategy).wrapped
        monkeypatch.setattr(
            type(strategy), "wrapped", staticmethod(lambda *given: self.made.append(wrapped(*given)) or self.made[-1])
        )

    def logits(self, ids):
        return self.made[0](input_ids=torch.tensor([list(ids)]), attention_mask=torch.ones(1, len(ids))).logits


@EACH
@pytest.mark.parametrize("family", ["olmoe", "qwen2_moe"])
@pytest.mark.filterwarnings("ignore:.past_key_values. is deprecated:FutureWarning")  # PEFT 0.21 calls it so
@torch.no_grad()
def test_scores_are_those_of_pefts_own_forward_pass(strategy, family, monkeypatch):
    context, peft = context_of(family), Recorded(monkeypatch, strategy)
    tuning = tuning_of(strategy, context)
    tuning.parameters["embedding"].add_(0.1 * torch.randn(tuning.parameters["embedding"].shape))
    for prompt, row in zip(context.prompts(ASKED), scored(tuning, context, context.prompts(ASKED)), strict=True):
        for option, length, score in zip(prompt.options, prompt.lengths, row, strict=False):
            logits = peft.logits(prompt.ids + option)[0].log_softmax(-1)[-len(option) - 1 : -1]
            expected = logits[range(len(option)), list(option)].sum() / length
            torch.testing.assert_close(score, expected, atol=1e-4, rtol=0)


@EACH
def test_they_cost_what_stands_before_the_prompt(strategy):
    """Virtual tokens pass the layers, a prefix is only seen."""
    context = context_of("qwen2_moe")
    answers = replace(strategy, lr=3e-2, epochs=4).prepare(context).answer(ASKED)
    assert scores(answers) != scores(context.plain(ASKED)), "something was learned"
    longer = replace(context.prompts(ASKED)[0], ids=(0,) * 4 + context.prompts(ASKED)[0].ids)
    as_tokens = context.model.plain_work(longer).flops
    assert answers[0].base_flops < answers[0].cost.total
    assert (
        answers[0].cost.total == pytest.approx(as_tokens) if strategy is PROMPT else answers[0].cost.total < as_tokens
    )


@EACH
def test_a_question_that_leaves_no_room_is_refused(strategy):
    context = context_of("qwen2_moe")
    answerer = replace(strategy, lr=3e-2, epochs=4).prepare(context)
    limit = context.model.max_length
    long = Question("long", "", ("a", "b"))
    missing = limit - len(context.model.encode(long).ids) - max(map(len, context.model.encode(long).options))
    fits, too_long = (replace(long, question="q" * (missing - less)) for less in (4, 3))
    answerer.answer([fits])
    with pytest.raises(DataError, match=f"question of at most {limit - 4} tokens, so that 4 virtual ones fit.*got"):
        answerer.answer([too_long])


@EACH
def test_more_of_them_than_the_references_have_tokens(strategy):
    context = context_of()
    said = rf"Expected {strategy.name}.tokens to be at most \d+, as many as the references' prompts have.*got 100000"
    with pytest.raises(SettingError, match=said):
        replace(strategy, tokens=100_000).prepare(context)


@pytest.mark.parametrize(
    ("strategy", "family", "said"),
    [
        (PREFIX, "deepseek_v3", r"family deepseek_v3: PEFT makes keys and values \(4, 4, 8\).*\(1, 4, 8\) in 3; use"),
        (PREFIX, "qwen3_next", "family qwen3_next: it needs layers that keep keys and values"),
        (PREFIX, "dbrx", "family dbrx: ValueError: Please specify `num_attention_heads`.*trains something else"),
        (
            PROMPT,
            "gemma4_text",
            "family gemma4_text: RuntimeError: It seems like you tried.*trains something else",
        ),
    ],
)
def test_families_that_peft_does_not_support_are_told(strategy, family, said):
    context = context_of(model=RoutedModel(tiny_moe(family), tiny_tokenizer(), name=family))
    with pytest.raises(ModelError, match=rf"{strategy.name} cannot be used on .*{said}"):
        strategy.prepare(context)
    assert not context.references.learned


def test_prompt_tuning_where_layers_keep_other_states():
    context = context_of(model=RoutedModel(tiny_moe("qwen3_next"), tiny_tokenizer(), name="qwen3_next"))
    PROMPT.prepare(context).answer(ASKED)
    assert learned(context)
