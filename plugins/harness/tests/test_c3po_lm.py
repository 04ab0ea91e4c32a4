"""``--model c3po``: what their ``hf`` says without an optimizer, what ours says with one, and what it refuses."""

import copy
import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch

pytest.importorskip("lm_eval", reason="the extra eval is not installed")

from c3po_harness import C3POLM, register
from lm_eval import simple_evaluate
from lm_eval._cli.harness import HarnessCLI
from lm_eval.api.instance import Instance
from lm_eval.models.huggingface import HFLM
from lm_eval.utils import simple_parse_args_string
from local_tasks import DOCS, asked, manager, requests, write_tasks
from routing.naive import SCOPES

from c3po_adaptive import Optimizer, Prompt, RemixSettings, load_moe_model, rule_named
from c3po_adaptive.errors import DataError, SettingError, UnknownNameError
from c3po_adaptive.models.routed import RoutedModel
from c3po_adaptive.testing import tiny_moe, tiny_tokenizer, write_tiny_checkpoint

SMALL = {"name": "fixed", "n": 2, "experts": 5}
CLOZE = {"name": "cloze", "normalize": "none"}
REMIXED = {"optimizer": {"name": "ngd", "steps": 3}, "selector": SMALL, "query": "question", "format": CLOZE}


@pytest.fixture(scope="module")
def tasks(tmp_path_factory):
    return write_tasks(tmp_path_factory.mktemp("tasks"))


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    return write_tiny_checkpoint(tmp_path_factory.mktemp("olmoe"), "olmoe")


@pytest.fixture(scope="module")
def refset(tmp_path_factory):
    path = tmp_path_factory.mktemp("refset") / "facts.jsonl"
    things = ["boat", "stone", "cork", "coin", "leaf", "nail", "dog", "fire"]
    rows = [
        {"question": f"is a {a} or a {b} more wet?", "choices": [a, b], "answer": (i + j) % 2}
        for i, a in enumerate(things)
        for j, b in enumerate(things)
        if i < j
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


@pytest.fixture(scope="module")
def olmoe(checkpoint):
    return load_moe_model(checkpoint)


@pytest.fixture(scope="module")
def remixed(olmoe, refset):
    return C3POLM(olmoe, refset=refset, batch_size=3, **REMIXED)


def hf(checkpoint, **options):
    return HFLM(str(checkpoint), device="cpu", batch_size=4, **options)


def request(kind, *arguments, doc=None, number=0):
    return Instance(kind, doc or {}, arguments, 0, metadata=("by hand", number, 1))


def alike(found, wanted, apart=1e-3):
    """Numbers up to a distance; whether they are greedy, and texts, exactly."""
    return [*map(flat, found)] == [pytest.approx(flat(one), abs=apart) for one in wanted]


def flat(answer):
    return answer if isinstance(answer, tuple) else (answer,)


KINDS = ["options", "letters", "blanks", "information", "own_contexts", "no_context", "one", "texts"]


@pytest.mark.parametrize("batch", [1, 3, "auto"])
def test_log_likelihoods_are_those_of_hf(checkpoint, tasks, batch):
    ours, theirs = C3POLM(str(checkpoint), batch_size=batch, max_batch_size=4), hf(checkpoint)
    for kind in KINDS:
        instances = requests(tasks, kind)
        assert alike(asked(ours, instances), asked(theirs, instances)), kind


def test_log_likelihoods_where_layers_carry_a_state_along_the_sequence(tasks, tmp_path):
    path = str(write_tiny_checkpoint(tmp_path, "qwen3_next"))
    ours, theirs, instances = C3POLM(path, batch_size=3), hf(path), requests(tasks, "options")
    assert alike(asked(ours, instances), asked(theirs, instances))


def test_solved_examples_and_long_contexts_too(checkpoint, tasks):
    """The model takes 512 tokens: contexts are cut on the left, for each option as far as its length asks for."""
    ours, theirs = C3POLM(str(checkpoint), batch_size=4), hf(checkpoint)
    instances = requests(tasks, "options", shots=4)
    long = [replace(r, arguments=("x " * 300 + r.args[0], r.args[1])) for r in instances]
    for asked_for in (instances, long):
        assert alike(asked(ours, asked_for), asked(theirs, asked_for))


def test_greedy_continuations_are_told(checkpoint):
    ours, theirs = C3POLM(str(checkpoint), batch_size=4), hf(checkpoint)
    context = "Question: what is it?\nAnswer:"
    greedy = ours.routed.generate(context, max_new_tokens=5, do_sample=False)
    told = [request("loglikelihood", context, text) for text in (greedy, greedy[:2], greedy[:2] + "#~", "#" + greedy)]
    assert [found[1] for found in asked(ours, told)] == [found[1] for found in asked(theirs, told)]
    assert [found[1] for found in asked(ours, told[:2])] == [True, True]


def test_texts_are_generated_as_by_hf(checkpoint, tasks):
    instances = requests(tasks, "generation")
    found = asked(C3POLM(str(checkpoint), batch_size=2), instances)
    assert found == asked(hf(checkpoint), instances)
    assert any(found)
    assert not any("e" in text for text in found)


def test_options_of_one_context_answer_one_pathway(remixed, olmoe, refset, tasks):
    """As our own face asks the same question, where it puts it in the same words."""
    face = Optimizer(
        olmoe, refset, optimizer=REMIXED["optimizer"], selector=SMALL, format=CLOZE, settings=RemixSettings()
    )
    answers = face.answer([d["question"] for d in DOCS], [d["choices"] for d in DOCS])
    found = asked(remixed, requests(tasks, "options"))
    assert [total for total, _ in found] == pytest.approx([s for a in answers for s in a.scores], abs=1e-4)
    base = [s for a in answers for s in a.base_scores]
    assert max(abs(total - s) for (total, _), s in zip(found, base, strict=True)) > 1e-3, "the optimizer acts"


def test_answers_do_not_depend_on_order_and_company(remixed, olmoe, refset, tasks):
    instances = requests(tasks, "options")
    alone = C3POLM(olmoe, refset=refset, batch_size=1, **REMIXED)
    assert alike(asked(alone, instances[::-1])[::-1], asked(remixed, instances), 1e-4)


@pytest.mark.parametrize("scope", SCOPES)
def test_generation_follows_the_pathway_of_its_context(olmoe, refset, tasks, scope):
    lm = C3POLM(
        olmoe, refset=refset, batch_size=5, scope=scope, **(REMIXED | {"optimizer": {"name": "ngd", "steps": 40}})
    )
    instances = requests(tasks, "generation")
    contexts = [r.args[0] for r in instances]
    states = olmoe.prefill([olmoe.encode_text(c) for c in contexts], scope=scope)
    pathway = lm.remixer.remix(states, [d["question"] for d in DOCS]).pathway
    wanted = olmoe.generate(contexts, routing=pathway, max_new_tokens=12, do_sample=False)
    assert asked(lm, instances) == [text.partition("e")[0] for text in wanted]
    assert wanted != olmoe.generate(contexts, max_new_tokens=12, do_sample=False), "the optimizer acts"


def test_neighbours_are_found_by_what_follows_the_solved_examples(olmoe, refset, tasks, monkeypatch):
    lm = C3POLM(olmoe, refset=refset, batch_size=8, **(REMIXED | {"query": None}))
    seen = []
    remix = lm.remixer.remix
    monkeypatch.setattr(lm.remixer, "remix", lambda states, texts: (seen.extend(texts), remix(states, texts))[1])
    asked(lm, requests(tasks, "options", shots=2))
    asked(lm, requests(tasks, "generation", shots=1))
    assert sorted(seen) == sorted([f"Question: {d['question']}\nAnswer:" for d in DOCS] * 2)


def test_a_pathway_may_cost_no_memory_that_is_not_there(olmoe, tasks, monkeypatch):
    instances = requests(tasks, "options")
    lm = C3POLM(olmoe, batch_size="auto", max_batch_size=4)
    wanted, plain = asked(lm, instances), RoutedModel.likelihoods
    sizes = []

    def cramped(self, prompts, **options):
        sizes.append(len(prompts))
        if len(prompts) > 2:
            raise RuntimeError("CUDA out of memory.")
        return plain(self, prompts, **options)

    monkeypatch.setattr(RoutedModel, "likelihoods", cramped)
    with pytest.warns(UserWarning, match="4 contexts did not fit in memory; going on with 2"):
        assert alike(asked(lm, instances), wanted, 1e-4)
    assert sizes == [4, 2, 2, 1]


def test_an_evaluation_by_the_harness(checkpoint, refset, tasks):
    """Three kinds of task at once, from files alone; what was run stands in the results."""
    register()
    options = {"refset": str(refset), "optimizer": "ngd", "selector": SMALL, "scope": "last"}
    for model_args, kinds in (
        ({"pretrained": str(checkpoint)}, ["options", "texts", "generation"]),
        ({"pretrained": str(checkpoint), **options}, ["options", "one", "generation"]),
    ):
        found = simple_evaluate(
            "c3po", model_args, kinds, batch_size=4, task_manager=manager(tasks), bootstrap_iters=0, device="cpu"
        )
        assert set(found["results"]) == set(kinds)
        assert found["results"]["options"]["acc,none"] in [i / 5 for i in range(6)]
        assert len(found["samples"]["generation"]) == len(DOCS)
        told = found["config"]["c3po"]
        json.dumps(told)
    assert (told["optimizer"]["name"], told["selector"]["n"], told["scope"]) == ("ngd", 2, "last")


def test_their_cache_of_answers_is_filled(olmoe, tasks, tmp_path):
    from lm_eval.api.model import CachingLM

    lm = CachingLM(C3POLM(olmoe, batch_size=4), str(tmp_path / "cache.db"))
    instances = requests(tasks, "options")
    first = lm.loglikelihood(instances)
    lm.lm._loglikelihood_tokens = None  # nothing is computed again
    assert lm.loglikelihood(instances) == first
    lm.dbdict.close()


@pytest.mark.parametrize(
    ("options", "error", "said"),
    [
        ({"optimiser": "ngd"}, SettingError, "did you mean 'optimizer'"),
        (
            {"parallelize": True},
            SettingError,
            r"got 'parallelize'; there are .*, listed in docs/howto/lm_eval\.md; leave it out",
        ),
        ({"optimizer": "none", "scope": "lsat"}, SettingError, "scope"),
        ({"optimizer": "ngdd", "refset": "x"}, UnknownNameError, "did you mean 'ngd'"),
        ({"selector": "fixed", "scope": "last"}, SettingError, "an optimizer beside selector, scope, got none"),
        ({"optimizer": "ngd", "selector": SMALL}, SettingError, "a reference set for ngd"),
    ],
)
def test_arguments_that_cannot_be_are_refused(olmoe, options, error, said):
    with pytest.raises(error, match=said):
        C3POLM(olmoe, **options)


def test_a_model_of_transformers_goes_with_its_tokenizer(olmoe, tasks):
    lm, instances = C3POLM(olmoe.model, tokenizer=olmoe.tokenizer, batch_size=3), requests(tasks, "options")
    assert alike(asked(lm, instances), asked(C3POLM(olmoe, batch_size=3), instances), 1e-6)
    for model, given, said in (
        (olmoe.model, {}, "say tokenizer="),
        (olmoe, {"tokenizer": olmoe.tokenizer}, "no tokenizer beside a RoutedModel"),
        ("smollm2-moe", {"tokenizer": olmoe.tokenizer}, "no tokenizer beside a name"),
    ):
        with pytest.raises(SettingError, match=said):
            C3POLM(model, **given)


def test_a_model_in_training_is_left_as_it_was_and_answers_as_it_is_now(refset, tasks):
    """Of every kind of request; the rule acts in a layer that was put in after the first ones, too."""
    model, tokenizer = tiny_moe("olmoe").train(), tiny_tokenizer()
    tokenizer.padding_side = "right"
    model.lm_head.requires_grad_(False)

    def states():
        trained = [p.requires_grad for p in model.parameters()]
        return [m.training for m in model.modules()], trained, tokenizer.padding_side, tokenizer.pad_token

    before = states()
    assert all(before[0]) and {*before[1]} == {True, False}
    lm = C3POLM(model, tokenizer=tokenizer, batch_size=3, rule="ban:3")
    kinds = {kind: requests(tasks, kind) for kind in ("options", "texts", "generation")}
    first = {}
    for kind, instances in kinds.items():
        first[kind] = asked(lm, instances)
        assert states() == before, kind
    C3POLM(model, tokenizer=tokenizer, refset=refset, **REMIXED)
    assert states() == before, "references are read, too"
    layer = model.model.layers[0]
    layer.mlp = copy.deepcopy(layer.mlp)
    with torch.no_grad():
        layer.mlp.experts.down_proj.mul_(-3)
    anew = RoutedModel(copy.deepcopy(model), tokenizer)
    found = asked(lm, kinds["options"])
    assert alike(found, asked(C3POLM(anew, batch_size=3, rule="ban:3"), kinds["options"]), 1e-4)
    assert not alike(found, first["options"])


def test_upper_bounds_are_refused(olmoe, refset):
    with pytest.raises(SettingError, match="right answer, which requests do not tell, got oracle"):
        C3POLM(olmoe, refset=refset, optimizer="oracle", selector=SMALL)


@pytest.mark.parametrize("kind", ["texts", "no_context"])
def test_what_an_optimizer_has_no_part_in_is_refused(remixed, tasks, kind):
    with pytest.raises(SettingError, match=f"got {kind}, whose requests have no context: ngd would have no part"):
        asked(remixed, requests(tasks, kind))


def test_requests_without_a_context_beside_others_keep_the_models_own_pathway(remixed, olmoe, tasks):
    instances = requests(tasks, "information")
    plain, found = asked(C3POLM(olmoe, batch_size=4), instances), asked(remixed, instances)
    without = [i for i, r in enumerate(instances) if not r.args[0]]
    assert alike([found[i] for i in without], [plain[i] for i in without], 1e-4)
    assert not alike(found, plain)


def test_a_task_that_neither_scores_nor_generates_learns_what_there_is(olmoe):
    with pytest.raises(AttributeError, match="C3POLM has no 'draw_picture': expected a task that scores or generates"):
        C3POLM(olmoe).draw_picture([])


def test_a_query_that_documents_do_not_have(olmoe, refset, tasks):
    lm = C3POLM(olmoe, refset=refset, **(REMIXED | {"query": "stem"}))
    with pytest.raises(
        DataError, match="document 0: expected a text in the field 'stem', got None; name one of question"
    ):
        asked(lm, requests(tasks, "options"))


def test_continuations_that_cannot_be_scored(olmoe):
    lm = C3POLM(olmoe, max_length=8)
    with pytest.raises(DataError, match="a continuation of 1 to 8 tokens, got 9"):
        asked(lm, [request("loglikelihood", "a", "b" * 9)])
    with pytest.raises(DataError, match="got 0"):
        asked(lm, [request("loglikelihood", "a", "")])


def test_settings_are_taken_as_model_args(olmoe, refset):
    lm = C3POLM(olmoe, refset=refset, optimizer="ngd", selector=SMALL, learn_from="all", seed=3)
    assert lm.remixer.settings == RemixSettings(learn_from="all", seed=3)
    assert lm.max_length == 512
    assert torch.device(lm.device).type == "cpu"


def test_plugins_come_from_files(olmoe, tasks, tmp_path):
    there = Path(__file__).parents[2] / "rivals" / "c3po_rivals" / "entropy_descent.py"
    file = tmp_path / "mine.py"
    file.write_text(there.read_text().replace("entropy-descent", "my-descent"))
    lm = C3POLM(olmoe, optimizer="my-descent", selector=SMALL, plugin=str(file), batch_size=4)
    plain, instances = C3POLM(olmoe, batch_size=4), requests(tasks, "options")
    assert not alike(asked(lm, instances), asked(plain, instances))
    assert lm.get_model_info()["c3po"]["optimizer"]["name"] == "my-descent"


RULE = "ban:3/5;bias:1=+2.5@last-1"


def through_their_command_line(text):
    """``--model_args`` as their parser reads it."""
    parser = HarnessCLI()._parser
    return vars(parser.parse_args(["run", "--model", "c3po", "--tasks", "x", "--model_args", text]))["model_args"]


@pytest.mark.parametrize("parse", [simple_parse_args_string, through_their_command_line])
def test_a_rule_survives_their_parsers(parse):
    assert parse(f"pretrained=x,rule={RULE};top-k:1,dtype=float32")["rule"] == f"{RULE};top-k:1"


def test_along_a_rule(checkpoint, olmoe, tasks):
    """Options, texts and generation, as the model itself answers along the same rule."""
    rule = rule_named(RULE)
    lm, instances = C3POLM(olmoe, rule=RULE, batch_size=3), requests(tasks, "options")
    contexts = {r.args[0]: [s.args[1] for s in instances if s.args[0] == r.args[0]] for r in instances}
    found, plain = asked(lm, instances), asked(C3POLM(olmoe, batch_size=3), instances)
    assert not alike(found, plain, 1e-2), "it acts"
    prompts = [
        Prompt(tuple(lm.tok_encode(context)), tuple(tuple(lm.tok_encode(o)) for o in options), (1.0,) * len(options))
        for context, options in contexts.items()
    ]
    assert [total for total, _ in found] == pytest.approx(
        [s for one in olmoe.ruled(prompts, rule) for s in one.scores().tolist()], abs=1e-3
    )
    for kind in ("texts", "no_context"):  # a rule acts at every token, asked or not
        assert not alike(asked(lm, requests(tasks, kind)), asked(C3POLM(olmoe), requests(tasks, kind)), 1e-2)
    instances = requests(tasks, "generation")
    texts = olmoe.generate([r.args[0] for r in instances], rule, max_new_tokens=12, do_sample=False)
    assert asked(lm, instances) == [text.partition("e")[0] for text in texts]


def test_an_evaluation_along_a_rule(checkpoint, tasks):
    register()
    found = simple_evaluate(
        "c3po", f"pretrained={checkpoint},rule={RULE}", ["options", "texts", "generation"],
        batch_size=4, task_manager=manager(tasks), bootstrap_iters=0, device="cpu",
    )  # fmt: skip
    assert found["config"]["c3po"]["rule"]["first"] == {"name": "ban", "experts": [3, 5], "layers": "all"}
    json.dumps(found["config"]["c3po"])


def test_a_preset_is_taken_whole(olmoe, refset):
    lm = C3POLM(olmoe, refset=refset, preset="c3po", selector=SMALL, scope="answer")
    assert (lm.remixer.settings.loss, lm.remixer.settings.mix) == ("likelihood", "top-k"), "the preset's"
    assert (lm.remixer.settings.scope, lm.remixer.strategies.selector.n) == ("answer", 2), "and what is named beside it"


@pytest.mark.parametrize(
    ("options", "error", "said"),
    [
        ({"rule": "bann:3"}, UnknownNameError, "did you mean 'ban'"),
        ({"rule": "ban:9"}, SettingError, "experts of rule 'ban' from 0 to 7"),
        ({"rule": "ban:3@9"}, SettingError, "among the MoE layers 0, 1, 2"),
        ({"rule": "top-k:1", "optimizer": "ngd"}, SettingError, "a rule or an optimizer, got both"),
        ({"rule": "top-k:1", "preset": "c3po"}, SettingError, "a rule or an optimizer, got both"),
        ({"rule": "top-k:1", "refset": "x"}, SettingError, "an optimizer beside refset, got none"),
        ({"preset": "c3p0", "refset": "x"}, UnknownNameError, "preset"),
    ],
)
def test_rules_that_cannot_be_are_refused(olmoe, options, error, said):
    with pytest.raises(error, match=said):
        C3POLM(olmoe, **options)
