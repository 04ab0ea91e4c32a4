"""``Optimizer``, as users call it."""

import json
import math
import re
from dataclasses import replace

import pytest
import torch
from rounding import near
from routing.naive import routed_model, shared_model
from routing.toys import HashEmbedder, questions, reference_set

from c3po_adaptive import Optimizer, default_registry
from c3po_adaptive.errors import DataError, SettingError, UnknownNameError
from c3po_adaptive.references.build import build_reference_set
from c3po_adaptive.references.embedding import default_embedder
from c3po_adaptive.remixing.presets import PRESETS
from c3po_adaptive.settings import RemixSettings
from c3po_adaptive.types import Answer, Question

TEXTS = ["Which object can float on water?", "Is wool cold?"]
CHOICES = [["a stone", "a wooden boat"], ["yes", "no", "it depends"]]
STRATEGIES = {
    "optimizer": {"name": "ngd", "steps": 3, "lr": 0.05},
    "selector": {"name": "fixed", "n": 2, "experts": 6},
}


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("C3PO_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def optimizer(refset=None, model=None, **settings):
    given = reference_set("olmoe") if refset is None else refset
    return Optimizer(model or shared_model("olmoe"), given, embedder=HashEmbedder(), **STRATEGIES | settings)


def as_jsonl(path):
    rows = [vars(q) | {"choices": list(q.choices)} for q in questions(24)]
    path.write_text("\n".join(map(json.dumps, rows)))
    return path


def as_array(path):
    """In the form of commonsenseQA.json."""
    rows = [
        {
            "id": q.id,
            "question": {
                "stem": q.question,
                "choices": [{"label": chr(65 + i), "text": c} for i, c in enumerate(q.choices)],
            },
            "answerKey": chr(65 + q.answer),
        }
        for q in questions(24)
    ]
    path.write_text(json.dumps(rows))
    return path


class TestReferences:
    @pytest.mark.parametrize("kind", ["JSONL", "JSON array", "folder", "text", "questions", "rows"])
    def test_of_every_kind_give_the_same(self, kind, tmp_path):
        expected = optimizer().optimize(TEXTS)
        refset = {
            "JSONL": lambda: as_jsonl(tmp_path / "questions.jsonl"),
            "JSON array": lambda: as_array(tmp_path / "commonsenseQA.json"),
            "folder": lambda: reference_set("olmoe").save(tmp_path / "set"),
            "text": lambda: str(reference_set("olmoe").save(tmp_path / "set")),
            "questions": lambda: list(reference_set("olmoe").questions),
            "rows": lambda: json.loads(as_array(tmp_path / "rows.json").read_text()),
        }[kind]()
        c3po = optimizer(refset)
        assert [q.id for q in c3po.references.questions] == [f"r{i}" for i in range(24)]
        torch.testing.assert_close(c3po.optimize(TEXTS).weights, expected.weights, atol=1e-5, rtol=0)

    @pytest.mark.parametrize("given", [["a question?"], {"a": 1}, 3], ids=["texts", "mapping", "number"])
    def test_of_no_kind_are_refused(self, given):
        with pytest.raises(DataError, match=r"or a list of Question as references, got (str|dict|int)"):
            optimizer(given)

    def test_of_a_broken_row_are_refused_with_its_place(self):
        whole = {"question": "Is it so?", "choices": ["yes", "no"], "answer": 0}
        c3po = optimizer([whole, whole | {"id": "mine", "answer": 1}])
        assert [q.id for q in c3po.references.questions] == ["references.0", "mine"]
        with pytest.raises(DataError, match=r"references, index 1: expected the field 'answer'"):
            optimizer([whole, {"question": "Is it so?", "choices": ["yes", "no"]}])

    def test_are_built_once(self, tmp_path, cache):
        file = as_jsonl(tmp_path / "questions.jsonl")
        model = routed_model("olmoe")
        optimizer(file, model)
        (folder,) = [p for p in (cache / "refsets").iterdir() if (p / "card.json").exists()]

        def refused(*args, **options):
            raise AssertionError("the references ran again")

        model.prefill = refused
        optimizer(file, model)
        with pytest.raises(AssertionError, match="ran again"):
            optimizer(file, model, format="letter")
        (folder / "tensors.safetensors").write_bytes(b"")
        with pytest.raises(AssertionError, match="ran again"):
            optimizer(file, model)
        del model.prefill
        assert len(optimizer(file, model).references) == 24, "a broken entry is built anew"

    def test_missing(self, tmp_path):
        with pytest.raises(DataError, match="there is none"):
            optimizer(tmp_path / "absent.jsonl")
        with pytest.raises(
            SettingError, match=r'reference set for ngd .*refset=…: "demo", a file or .*list of Question'
        ):
            Optimizer(shared_model("olmoe"), embedder=HashEmbedder(), **STRATEGIES)


@pytest.mark.parametrize(
    ("given", "remedy"), [({}, '"fixed", "n": LAYERS'), ({"selector": "random"}, '"random", "n": LAYERS')]
)
def test_more_layers_than_the_model_has_are_refused_before_references_are_read(given, remedy):
    model = shared_model("olmoe")
    wanted = remedy.replace("LAYERS", str(len(model.layers)))
    with pytest.raises(SettingError, match=rf'got 5; ask for fewer: selector=\{{"name": {wanted}\}}'):
        Optimizer(model, "no such file.jsonl", embedder=HashEmbedder(), **given)


def test_an_optimizer_prints_what_its_preset_set_and_what_not():
    said = repr(optimizer(kernel="linear", settings={"scope": "all"})).splitlines()
    assert said[0].endswith("by the preset 'c3po':")
    assert said[1].startswith("  optimizer (given; the preset's: ngd): ngd (steps 3, lr 0.05, ")
    assert said[2:4] == ["  kernel (given; the preset's: gaussian): linear", "  retriever: faiss-knn (k 3)"]
    assert said[5] == "  set: loss likelihood, head full, mix top-k, pathway router"
    assert said[6].startswith("  not set by it: scope all, transfer replace, ")
    assert said[8].startswith("  references: ReferenceSet(24 questions, ")


def test_what_is_given_takes_no_parameter_of_the_preset_and_says_so():
    said = repr(optimizer(preset="nearest", optimizer="none", selector={"name": "random", "n": 2}, kernel="linear"))
    assert "  kernel (given; the preset's: gaussian (length_scale 0.245)): linear\n" in said
    assert "  selector (given; the preset's: fixed (layers all, experts None)): random" in said


def test_more_experts_than_a_layer_has_are_said_to_be_all_of_it():
    usual = optimizer(optimizer="none", selector={"name": "fixed", "n": 2})
    assert "fixed (layers last, n 2, experts 20: all 8 of a layer)" in repr(usual)
    with pytest.warns(UserWarning, match="has 20 experts: all 8 of a layer are used"):
        optimizer(optimizer="none", selector={"name": "fixed", "n": 2, "experts": 20})


def test_rows_are_asked_as_questions_are():
    c3po, row = optimizer(), {"question": TEXTS[0], "choices": CHOICES[0]}
    asked = Question("mine", TEXTS[0], tuple(CHOICES[0]))
    assert c3po.answer(row).scores == c3po.answer(asked).scores
    both = [list(one.scores) for one in c3po.answer([row, row | {"answer": "a stone"}])]
    assert both == near([list(c3po.answer(row).scores)] * 2)
    assert str(c3po.explain(row)) == str(c3po.explain(asked))
    assert torch.equal(c3po.model.score_choices(row), c3po.model.score_choices(asked))
    with pytest.raises(DataError, match=r"question 1: expected the field 'choices', got only 'question'\.$"):
        c3po.answer([row, {"question": TEXTS[0]}])


def test_an_answer_is_printed_in_a_line():
    found = repr(optimizer().answer(TEXTS[0], CHOICES[0]))
    assert len(found) < 200
    assert re.fullmatch(
        r"Answer\(choice=\d, scores=\((-?[\d.]+, )+-?[\d.]+\), base_choice=\d, layers=\(1, 2\), \d neighbours, "
        r"[\d.]+ base forwards\)",
        found,
    )


class TestOptimize:
    def test_one_text_or_many(self):
        c3po = optimizer()
        one, many = c3po.optimize(TEXTS[0]), c3po.optimize(TEXTS)
        assert one.weights.shape == (3, 8)
        assert many.weights.shape == (2, 3, 8)
        torch.testing.assert_close(many.weights[0], one.weights, atol=1e-4, rtol=0)
        assert one.layers == (0, 1, 2)
        assert one.changed().tolist() == [False, True, True]
        torch.testing.assert_close(one.router.sum(-1), one.own.sum(-1))
        assert torch.equal(one.own, shared_model("olmoe").pathway(TEXTS[0]).router)

    def test_result_is_what_the_model_takes(self):
        c3po, model = optimizer(), shared_model("olmoe")
        for texts in (TEXTS[0], TEXTS):
            omega = c3po.optimize(texts)
            base, new = model.forward(texts).logits, model.forward(texts, routing=omega).logits
            assert torch.equal(new[:, :-1], base[:, :-1])
            assert (new[:, -1] != base[:, -1]).any(-1).all()
            options = {"max_new_tokens": 4, "do_sample": False}
            generated = model.generate(texts, routing=omega, **options)
            assert type(generated) is type(model.generate(texts, **options))
        assert len(model.score_choices(TEXTS, CHOICES, routing=omega)) == 2

    @pytest.mark.parametrize("text", [TEXTS[0], "A boat is made of ___ as a rule."])
    def test_with_a_format_it_sees_the_prompt_that_is_scored(self, text):
        model = shared_model("olmoe")
        (state,) = model.prefill([model.encode(Question("", text, ("a stone", "a wooden boat")))])
        torch.testing.assert_close(optimizer(format="cloze").optimize(text).own, state.router, atol=1e-5, rtol=0)
        raw = optimizer().optimize(text)
        torch.testing.assert_close(raw.own, model.pathway(text).router, atol=1e-6, rtol=0)
        assert not torch.equal(raw.used.own.count_nonzero(0), state.own.count_nonzero(0))


@pytest.mark.parametrize("text", [TEXTS[0], TEXTS], ids=["one", "many"])
def test_a_problem_of_raw_texts_is_the_one_that_optimize_solves(text):
    c3po = optimizer()
    problem, omega = c3po.problem(text), c3po.optimize(text)
    assert torch.equal(problem.own, omega.own.view(-1, *omega.own.shape[-2:])) and not problem.choices
    assert problem.loss(problem.own).isfinite().all()
    with pytest.raises(SettingError, match="Expected questions with choices to score, got raw text; give choices"):
        problem.scores(problem.own)


def test_shown_in_a_line():
    c3po = optimizer()
    problem, omega = c3po.problem(TEXTS[0], CHOICES[0]), c3po.optimize(TEXTS[0])
    assert "changed in layers [" in repr(omega)
    assert "changed in no layer" in repr(replace(omega, router=omega.own))
    assert repr(problem).startswith("Problem(own [1, ")
    assert max(len(repr(omega)), len(repr(problem))) < 100


class TestAnswer:
    def test_text_record_or_many(self):
        c3po = optimizer()
        one = c3po.answer(TEXTS[0], CHOICES[0])
        record = c3po.answer(Question("q", TEXTS[0], tuple(CHOICES[0]), 1))
        many = c3po.answer(TEXTS, CHOICES)
        assert isinstance(one, Answer)
        assert one.scores == record.scores
        assert [len(a.scores) for a in many] == [2, 3]
        assert many[0].scores == pytest.approx(one.scores, abs=1e-4)
        assert one.choice in (0, 1)
        assert len(one.neighbours) == 3

    def test_default_embedder(self):
        """The only test here with the real sentence embedder: near-duplicates and neighbours by meaning."""
        asked = [
            Question("ship", "Which vehicle sails on the sea?", ("a ship", "a car"), 0),
            Question("bird", "Which animal can fly?", ("a bird", "a cow"), 0),
            Question("song", "What does a choir sing?", ("a song", "a stone"), 0),
        ]
        model = shared_model("olmoe")
        built = build_reference_set(model, asked, default_embedder())
        built = replace(built, correct=torch.ones(3, dtype=torch.bool))
        answer = Optimizer(model, built, **STRATEGIES).answer("Which boat sails on a lake?", ["a ferry", "a bus"])
        assert answer.neighbours[0][0] == "ship"
        assert all(math.isfinite(s) for s in answer.scores)
        assert answer.cost.embedding > 1e6


class TestPresets:
    def made(self, **given):
        return Optimizer(shared_model("olmoe"), reference_set("olmoe"), embedder=HashEmbedder(), **given)

    @pytest.mark.parametrize("name", PRESETS)
    def test_is_what_its_strategies_are(self, name):
        small = {"selector": STRATEGIES["selector"]} if name == "c3po" else {}  # five layers are more than there are
        one, preset = self.made(preset=name, **small), PRESETS[name]
        other = self.made(**{**preset.specs, **small}, settings=RemixSettings(**preset.settings))
        assert one.remixer.strategies == other.remixer.strategies
        assert one.remixer.settings == other.remixer.settings
        assert one.answer(TEXTS[0], CHOICES[0]).scores == pytest.approx(other.answer(TEXTS[0], CHOICES[0]).scores)

    def test_the_papers_is_the_usual_one(self):
        small = {"selector": STRATEGIES["selector"]}
        assert self.made(**small).remixer.strategies == self.made(preset="c3po", **small).remixer.strategies
        assert self.made(**small).remixer.settings == RemixSettings(**PRESETS["c3po"].settings)

    def test_the_papers_numbers(self):
        """arXiv 2504.07964: what is published, whatever our own defaults become."""
        specs = PRESETS["c3po"].specs
        made = default_registry().strategies(specs)
        assert (made.optimizer.name, made.optimizer.steps, made.optimizer.step) == ("ngd", 10, "adam")
        assert (made.optimizer.lr, made.optimizer.lr_end, made.optimizer.tolerance) == (0.01, 0.00001, 0)
        selector = made.selector
        assert (selector.name, selector.layers, selector.n, selector.experts) == ("fixed", "last", 5, 20)
        assert (made.retriever.name, made.retriever.k, made.kernel.name) == ("faiss-knn", 3, "gaussian")
        settings = RemixSettings(**PRESETS["c3po"].settings)
        assert (settings.scope, settings.transfer) == ("last", "replace")
        assert (settings.loss, settings.head) == ("likelihood", "full")
        assert (settings.mix, settings.pathway, settings.learn_from, settings.labels) == (
            "top-k",
            "router",
            "successful",
            "own",
        )
        assert settings.max_similarity == 0.95

    def test_the_papers_acts_on_the_last_token_with_the_models_own_number_of_experts(self):
        c3po = self.made(selector=STRATEGIES["selector"])
        omega = c3po.optimize(TEXTS[0])
        assert (omega.scope, omega.gate.k) == ("last", c3po.model.sites[0].top_k)
        assert (omega.weights.count_nonzero(-1) == omega.gate.k).all()

    def test_single_parts_are_replaced(self):
        small = {"selector": STRATEGIES["selector"]}
        c3po = self.made(retriever={"name": "faiss-knn", "k": 5}, settings={"seed": 3}, **small)
        assert (c3po.remixer.strategies.retriever.k, c3po.remixer.strategies.optimizer.name) == (5, "ngd")
        assert (c3po.remixer.settings.loss, c3po.remixer.settings.seed) == ("likelihood", 3)
        assert self.made(settings=RemixSettings(), **small).remixer.settings.loss == "choices", "whole ones"

    @pytest.mark.parametrize("parts", [{}, {"optimizer": "constant-integrated-step"}])
    def test_a_pool_in_which_one_data_set_has_a_handful(self, parts):
        """Questions of either are answered, and what is learned from so few of the one is finite."""
        few = [replace(q, id=f"few{i}", question=f"Quite another thing {i}?") for i, q in enumerate(questions(2))]
        pool = build_reference_set(shared_model("olmoe"), [*questions(30), *few], HashEmbedder())
        given = {"embedder": HashEmbedder(), "settings": {"learn_from": "all"}}
        given["selector"] = {"name": "fixed", "layers": "all", "experts": None}
        c3po = Optimizer(shared_model("olmoe"), pool, **given, **parts)
        for text in (TEXTS[0], "Quite another thing 7?"):
            assert all(math.isfinite(score) for score in c3po.answer(text, CHOICES[0]).scores)

    def test_the_nearest_says_which_rate_the_references_chose(self):
        c3po = self.made(preset="nearest")
        rate = re.search(r"lr (0, no step: no rate helped|[\d.]+, chosen by) 24 references", repr(c3po))
        assert rate and rate[0] in str(c3po.explain(TEXTS[0], CHOICES[0]))

    def test_an_unknown_one_is_refused(self):
        with pytest.raises(UnknownNameError, match=r"preset, got 'c3op'; did you mean 'c3po'"):
            self.made(preset="c3op")
        with pytest.raises(UnknownNameError, match=r"there are c3po, c3po-tuned, nearest"):
            self.made(preset="xyz")
        with pytest.raises(UnknownNameError, match=r"preset, got None"):
            self.made(preset=None)
