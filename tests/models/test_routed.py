"""Running a model along its own or another pathway."""

from dataclasses import replace
from functools import partial

import pytest
import torch
from rounding import assert_near
from routing.naive import FAMILIES, along, logits, moved, routed_model, shared_model

from c3po_adaptive.errors import DataError, SettingError, ShapeError
from c3po_adaptive.models.provenance import stack_pathways
from c3po_adaptive.models.routed import RoutedModel
from c3po_adaptive.models.traced import record
from c3po_adaptive.tasks.question_files import as_questions
from c3po_adaptive.testing import tiny_moe, tiny_tokenizer
from c3po_adaptive.types import Pathway, Question

TEXT = "Which object can float on water?"
TEXTS = [TEXT, "Wood", "Stones sink."]


@pytest.fixture(params=FAMILIES)
def model(request):
    return shared_model(request.param)


def test_tokenizer_without_a_pad_token():
    tokenizer = tiny_tokenizer()
    tokenizer.pad_token = None
    model = RoutedModel(tiny_moe("olmoe"), tokenizer)
    assert tokenizer.pad_token == "<eos>"
    expected = shared_model("olmoe").generate(TEXTS, max_new_tokens=4, do_sample=False)
    assert model.generate(TEXTS, max_new_tokens=4, do_sample=False) == expected


@pytest.mark.parametrize(
    ("family", "parts"),
    [
        ("olmoe", ["'olmoe': OlmoeForCausalLM of the family olmoe", "3 MoE layers (0 to 2) of 3", "8 experts, top-2"]),
        ("jamba", ["JambaForCausalLM", "2 MoE layers (1, 3) of 4"]),
    ],
)
def test_a_model_shown_fits_a_screen(family, parts):
    model = shared_model(family)
    shown = repr(model)
    for part in (*parts, f"{sum(p.numel() for p in model.model.parameters()):,} parameters in float32 on cpu"):
        assert part in shown
    assert max(map(len, shown.splitlines())) <= 100
    assert len(shown.splitlines()) == 3


class TestForward:
    def test_logits_are_the_models_own(self, model):
        output = model.forward(TEXTS).logits
        assert output.shape == (3, len(TEXT), 128)
        for row, text in zip(output, TEXTS, strict=True):
            with torch.no_grad():
                expected = logits(model.model, model.encode_text(text).ids)
            assert_near(row[-len(text) :], expected)
            assert (row[: -len(text)] == 0).all()
            assert torch.equal(model.forward(text).logits[0], row[-len(text) :])

    def test_own_pathway_is_the_base_bit_for_bit(self, model):
        assert torch.equal(model.forward(TEXTS, model.pathway(TEXTS)).logits, model.forward(TEXTS).logits)
        assert torch.equal(model.forward(TEXT, model.pathway(TEXT)).logits, model.forward(TEXT).logits)

    @pytest.mark.parametrize("layers", [(0, 2), (2,)])
    def test_changed_pathway_acts_on_the_last_token_only(self, model, layers):
        pathway = moved(model.pathway(TEXTS), layers)
        base, new = model.forward(TEXTS).logits, model.forward(TEXTS, pathway).logits
        assert torch.equal(new[:, :-1], base[:, :-1])
        for b, text in enumerate(TEXTS):
            ids = model.encode_text(text).ids
            with torch.no_grad():
                expected = logits(model.model, ids, along(pathway.weights[b], pathway.own[b], len(ids) - 1))[-1]
            assert_near(new[b, -1], expected)
            assert (new[b, -1] - base[b, -1]).abs().max() > 1e-3

    def test_of_all_tokens_acts_on_each(self, model):
        pathway = replace(moved(model.pathway(TEXTS)), scope="all")
        base, new = model.forward(TEXTS).logits, model.forward(TEXTS, pathway).logits
        for b, text in enumerate(TEXTS):
            ids = model.encode_text(text).ids
            edit = along(pathway.weights[b], pathway.own[b], len(ids) - 1, scope="all")
            with torch.no_grad():
                expected = logits(model.model, ids, edit)
            assert_near(new[b, -len(ids) :], expected)
            assert ((new[b] - base[b])[-len(ids) :].abs().amax(-1) > 1e-4).all()

    def test_one_pathway_for_one_text_or_a_list_for_many(self, model):
        parts = [moved(model.pathway(t), seed=i) for i, t in enumerate(TEXTS)]
        together = model.forward(TEXTS, stack_pathways(parts)).logits
        assert torch.equal(model.forward(TEXTS, parts).logits, together)
        assert torch.equal(model.forward(TEXTS[1], parts[1]).logits[0], together[1, -4:])

    def test_unchanged_samples_beside_changed_ones_stay_bit_for_bit(self, model):
        pathway = moved(model.pathway(TEXTS))
        weights = torch.cat([pathway.own[:1], pathway.weights[1:]])
        new, base = model.forward(TEXTS, replace(pathway, router=weights)).logits, model.forward(TEXTS).logits
        assert [torch.equal(a, b) for a, b in zip(new, base, strict=True)] == [True, False, False]


class TestChoices:
    QUESTION = Question("q", "What floats?", ("wood", "a stone"), 0)

    def test_own_pathway_is_the_base_bit_for_bit(self, model):
        base = model.score_choices(self.QUESTION)
        own = model.prefill([model.encode(self.QUESTION)])[0].own
        assert torch.equal(model.score_choices(self.QUESTION, routing=Pathway(own, own, model.layers)), base)

    def test_text_with_choices_or_a_record(self, model):
        base = model.score_choices(self.QUESTION)
        assert torch.equal(model.score_choices("What floats?", ["wood", "a stone"]), base)
        many = model.score_choices(["What floats?", "Why?"], [["wood", "a stone"], ["a", "b", "c"]])
        assert torch.equal(many[0], base)
        assert many[1].shape == (3,)
        letters = model.score_choices(self.QUESTION, format="letter")
        assert letters.shape == (2,)
        assert not torch.equal(letters, base)

    def test_a_record_with_other_choices_is_found_by_the_same(self):
        (asked,) = as_questions([Question("q", "News. What?", ("a", "b"), about="What?")], [["c", "d"]])
        assert (asked.about, asked.choices) == ("What?", ("c", "d"))

    def test_choices_must_be_there_for_each(self, model):
        with pytest.raises(SettingError, match="choices beside question texts, got none"):
            model.score_choices("What floats?")
        with pytest.raises(SettingError, match="each of 2 questions, got 1"):
            model.score_choices(["a?", "b?"], [["x", "y"]])


class TestContext:
    @pytest.fixture
    def short(self):
        return routed_model("olmoe", max_position_embeddings=16)

    def test_longest_prompt_that_fits(self, short):
        assert short.forward("0123456789abcdef").logits.shape == (1, 16, 128)
        with pytest.raises(DataError, match=r"at most 16 tokens, the model's context, got 17 of '0123456789abcdefg'"):
            short.forward(["a", "0123456789abcdefg"])

    def test_options_count(self, short):
        with pytest.raises(DataError, match="at most 16 tokens"):
            short.score_choices("x", ["a", "b"])


class TestRouting:
    def test_shape_model_and_batch_must_fit(self, model):
        own = model.pathway(TEXT)
        other = Pathway(own.weights[:2], own.own[:2], (0, 1))
        elsewhere = replace(own, layers=(3, 4, 5))
        for routing in (other, elsewhere, model.pathway(TEXTS), [own, own]):
            for run in (model.forward, model.generate):
                with pytest.raises(ShapeError, match=r"routing \(B, L, E\) = \(1, 3, 8\) for layers \(0, 1, 2\)"):
                    run(TEXT, routing)
        with pytest.raises(SettingError, match=r"Expected a Pathway, or a rule, got 'ban:3'; .*rule_named\('ban:3'\)"):
            model.generate("a text", routing="ban:3")
        trace = record(model, TEXT)
        for routing in (trace, [trace]):
            for run in (model.forward, model.generate, partial(model.score_choices, choices=["a", "b"])):
                with pytest.raises(SettingError, match=r"or a rule, got Trace; .*: replay\(model, trace\) scores"):
                    run(TEXT, routing=routing)
        with pytest.raises(SettingError, match=r"say routing=rule_named\('ban:3'\)"):
            model.generate("a text", rule="ban:3")
        with pytest.raises(ShapeError, match="one pathway of this model for each text"):
            model.forward(TEXTS, own)

    @pytest.mark.parametrize("value", [-0.1, torch.nan, torch.inf])
    def test_weights_that_none_can_have(self, model, value):
        own = model.pathway(TEXT)
        weights = own.weights.clone()
        weights[1, 2] = value
        with pytest.raises(ShapeError, match="finite routing weights >= 0"):
            replace(own, router=weights)

    @pytest.mark.parametrize("shape", [(8,), (2, 8), (1, 1, 3, 8)])
    def test_shapes_that_no_pathway_has(self, shape):
        weights = torch.rand(shape)
        with pytest.raises(ShapeError, match=r"one shape \(\[B,\] L, E\) with L = 3"):
            Pathway(weights, weights, (0, 1, 2))

    def test_replaced_weights_make_a_valid_pathway(self, model):
        own = model.pathway(TEXT)
        new = replace(own, router=own.router.flip(-1))
        assert torch.equal(new.own, own.router)
        assert new.changed().tolist() == [True] * 3
        assert not torch.equal(model.forward(TEXT, new).logits, model.forward(TEXT).logits)

    def test_stacking(self, model):
        parts = [model.pathway(t) for t in TEXTS]
        batch = stack_pathways(parts)
        assert batch.batched
        assert torch.equal(batch[1].weights, parts[1].weights)
        assert torch.equal(batch.weights, model.pathway(TEXTS).weights)
        for alike in ([parts[0], replace(parts[1], scope="last")], [parts[0], replace(parts[1], top_k=2)], []):
            with pytest.raises(ShapeError, match="one model, scope and top_k"):
                stack_pathways(alike)


class TestPrefillCache:
    @pytest.fixture
    def counted(self):
        """A model, and how often the experts of its first and last layer were called."""
        model, calls = routed_model("olmoe"), {0: 0, 2: 0}

        def counter(layer):
            def hook(*args):
                calls[layer] += 1

            return hook

        for layer in calls:
            model.sites[layer].experts.register_forward_pre_hook(counter(layer))
        return model, calls

    def test_a_text_is_run_once(self, counted):
        model, calls = counted
        pathway = model.pathway(TEXT)
        assert calls == {0: 2, 2: 2}, "the prompt, and its last token"
        model.forward(TEXT)
        model.forward(TEXT, pathway)
        assert calls == {0: 2, 2: 2}
        model.forward(TEXT, moved(pathway, layers=(2,)))
        assert calls == {0: 2, 2: 3}, "the last token, from the changed layer on"

    def test_twice_in_a_batch_is_once(self, counted):
        model, calls = counted
        first, second = model.prefill([model.encode_text(TEXT)] * 2)
        assert first is second
        assert calls[0] == 2

    def test_is_bounded_by_bytes(self, counted):
        model, calls = counted
        prompts = [model.encode_text(f"{c}{TEXT}") for c in "abcd"]
        size = model.prefill(prompts[:1])[0].nbytes

        def runs(model, prompt):
            before = calls[0]
            model.prefill([prompt], keep=False)
            return calls[0] > before

        two = RoutedModel(model.model, model.tokenizer, cache_bytes=2 * size)
        two.prefill(prompts[:3])
        two.prefill(prompts[3:], keep=False)
        assert sum(runs(two, p) for p in prompts) == 2
        assert runs(two, prompts[3]), "it was not to be kept"
        none = RoutedModel(model.model, model.tokenizer, cache_bytes=size - 1)
        none.prefill(prompts[:1])
        assert runs(none, prompts[0]), "it alone is over the budget"
