"""Baselines that are trained on references: they learn, say what it took, and leave the model as it was."""

import importlib.util
from dataclasses import replace

import pytest
import torch
from answerers.tuning import ASKED, Picture, context_of, learned, scores
from c3po_tuned import LoRA, PrefixTuning, PromptTuning, RouterTuning
from c3po_tuned.base import FLOPS, LOSSES

from c3po_adaptive.errors import DataError, ModelError, SettingError
from c3po_adaptive.losses import right_answer_loss
from c3po_adaptive.models.routed import RoutedModel
from c3po_adaptive.routing.whole_prompts import WholePrompts
from c3po_adaptive.storage.tensors import load_tensors, save_tensors
from c3po_adaptive.testing import tiny_moe, tiny_tokenizer

LORA = LoRA(epochs=2, r=2, lr=1e-2)
ROUTERS = RouterTuning(epochs=2, lr=1e-2, layers="all")
PROMPT = PromptTuning(epochs=2, tokens=4, lr=5e-2)
PREFIX = PrefixTuning(epochs=2, tokens=4, lr=5e-2)
EACH = pytest.mark.parametrize("strategy", [LORA, ROUTERS, PROMPT, PREFIX], ids=lambda s: s.name)
IN_PLACE = pytest.mark.parametrize("strategy", [LORA, ROUTERS], ids=lambda s: s.name)


def kept(context):
    return learned(context).keys() > {FLOPS, LOSSES}


@EACH
@pytest.mark.parametrize("family", ["olmoe", "qwen2_moe", "deepseek", "mixtral"])
def test_model_is_as_it_was_bit_for_bit(strategy, family):
    context = context_of(family)
    before = Picture(context.model)
    plain = scores(context.plain(ASKED))
    answerer = strategy.prepare(context)
    assert Picture(context.model) == before
    answers = answerer.answer(ASKED)
    assert Picture(context.model) == before
    assert scores(context.plain(ASKED)) == plain, "prompts that were kept, too"
    assert [a.base_scores for a in answers] == plain
    assert (scores(answers) != plain) == kept(context)


class Stopped(BaseException):
    """Ctrl-C, say."""


@EACH
@pytest.mark.parametrize(("error", "call"), [(Stopped, 1), (ZeroDivisionError, 3)])
def test_model_is_as_it_was_after_an_exception_in_the_middle(strategy, error, call, monkeypatch):
    """While training, before a forward pass and after it."""
    context, calls, scored = context_of(), [], WholePrompts.scores
    before = Picture(context.model)

    def failing(self, prompts, *opening):
        calls.append(prompts)
        if len(calls) > call + 1:
            raise error("in the middle")
        found = scored(self, prompts, *opening)
        if len(calls) > call:
            raise error("in the middle")
        return found

    with monkeypatch.context() as patch:
        patch.setattr(WholePrompts, "scores", failing)
        with pytest.raises((Stopped, ModelError), match="in the middle"):
            strategy.prepare(context)
    assert Picture(context.model) == before
    assert not context.references.learned
    strategy.prepare(context).answer(ASKED)


@EACH
def test_model_is_as_it_was_after_an_exception_in_an_answer(strategy, monkeypatch):
    context = context_of(loss="likelihood")
    before, answerer = Picture(context.model), strategy.prepare(context)
    expected = scores(answerer.answer(ASKED))

    def failing(*args):
        raise Stopped("in the middle")

    with monkeypatch.context() as patch:
        patch.setattr("c3po_adaptive.routing.whole_prompts.head", failing)
        with pytest.raises(Stopped):
            answerer.answer(ASKED)
    assert Picture(context.model) == before
    assert scores(answerer.answer(ASKED)) == expected


@EACH
@pytest.mark.parametrize("loss", ["choices", "likelihood", "lead"])
def test_it_learns_what_the_settings_say(strategy, loss):
    """The loss of what was held back falls, and in the model itself that of all references."""
    context = context_of("qwen2_moe", loss=loss)
    answerer = replace(strategy, epochs=3, patience=3, lr=2e-2).prepare(context)
    losses = learned(context)[LOSSES]
    assert kept(context)
    assert losses[1:].min() < losses[0]
    if strategy in (PROMPT, PREFIX):
        return
    known = context.references.questions
    right = torch.tensor([q.answer for q in known])

    def mean(rows):
        padded = [torch.tensor(row + (-torch.inf,) * (4 - len(row))) for row in rows]
        return right_answer_loss(torch.stack(padded), right, loss).mean()

    assert mean(scores(answerer.answer(known))) < mean([a.base_scores for a in context.plain(known)])


@EACH
def test_the_same_seed_learns_the_same_and_another_does_not(strategy):
    found = []
    for seed in (0, 0, 1):
        context = context_of(seed=seed)
        strategy.prepare(context)
        found.append(learned(context))
    one, again, other = found
    assert one.keys() == again.keys()
    assert all(torch.equal(one[name], again[name]) for name in one)
    assert not torch.equal(one[LOSSES], other[LOSSES])


@EACH
def test_labels_drawn_at_random_teach_something_else(strategy):
    losses = []
    for labels in ("own", "shuffled"):
        context = context_of(labels=labels)
        strategy.prepare(context)
        losses.append(learned(context)[LOSSES])
    assert not torch.equal(losses[0][:1], losses[1][:1]), "those held back have other labels, too"


@IN_PLACE
def test_questions_that_are_asked_teach_nothing(strategy):
    """Neither in a step nor among those held back, whatever their labels are."""
    whole = context_of()
    held_out = frozenset(q.id for q in whole.references.questions[:8])
    found = []
    for shift in (0, 1):
        context = context_of()
        changed = tuple(
            replace(q, answer=(q.answer + shift) % len(q.choices)) if q.id in held_out else q
            for q in context.references.questions
        )
        references = replace(context.references, questions=changed)
        context = replace(context, held_out=held_out, build_references=lambda r=references: r)
        strategy.prepare(context)
        found.append(learned(context))
    assert all(torch.equal(a, b) for a, b in zip(found[0].values(), found[1].values(), strict=True))


def test_learning_that_is_no_better_keeps_the_start(monkeypatch):
    context = context_of("qwen2_moe")
    monkeypatch.setattr("c3po_tuned.base.Training._held_back_loss", lambda self, plainly=False: 1e9)
    answers = LORA.prepare(context).answer(ASKED)
    assert scores(answers) == scores(context.plain(ASKED))
    assert answers[0].cost.total == context.plain(ASKED)[0].cost.total
    assert answers[0].setup_flops > 0, "it was tried all the same"


def test_it_stops_early_and_keeps_the_best_epoch():
    context = context_of()
    replace(LORA, epochs=40, patience=2, lr=3e-2).prepare(context)
    losses = learned(context)[LOSSES]
    assert len(losses) < 40
    best = int(losses[1:].argmin())
    assert best == len(losses) - 1 - 2 - 1, "two more epochs after the best one"


@EACH
def test_what_was_learned_is_kept_beside_the_references(strategy, tmp_path, monkeypatch):
    folder = context_of().references.save(tmp_path / "set")
    context = context_of(folder=folder)
    first = strategy.prepare(context).answer(ASKED)
    monkeypatch.setattr("c3po_tuned.base.Training.run", None)  # would raise if it were called
    again = context_of(folder=folder)
    answers = strategy.prepare(again).answer(ASKED)
    assert scores(answers) == scores(first)
    assert answers[0].setup_flops == first[0].setup_flops > 0


@IN_PLACE
def test_what_decides_what_is_learned_is_told_apart(strategy, tmp_path):
    folder = context_of().references.save(tmp_path / "set")
    strategy = replace(strategy, epochs=1)
    for settings in ({}, {"loss": "lead"}, {"labels": "shuffled"}, {"seed": 1}):
        strategy.prepare(context_of(folder=folder, **settings))
    replace(strategy, lr=2e-2).prepare(context_of(folder=folder))
    strategy.prepare(replace(context_of(folder=folder), held_out=frozenset({"references0"})))
    assert len(list((folder / "learned").iterdir())) == 6
    strategy.prepare(context_of(folder=folder, learn_from="all"))
    assert len(list((folder / "learned").iterdir())) == 6, "which has no part"


@EACH
def test_what_another_model_learned_is_refused(strategy, tmp_path):
    folder = context_of().references.save(tmp_path / "set")
    strategy.prepare(context_of(folder=folder))
    (path,) = (folder / "learned").iterdir()
    save_tensors(load_tensors(path, ""), path, {"model": "of somebody else"})
    with pytest.raises(DataError, match="cut short or altered; delete it"):
        strategy.prepare(context_of(folder=folder))


@EACH
def test_what_it_took_is_told(strategy):
    context = context_of()
    answers = strategy.prepare(context).answer(ASKED)
    base = [a.base_flops for a in answers]
    # a forward pass and about two backward for each reference, epoch after epoch
    references = sum(context.model.plain_work(p).flops for p in context.prompts(context.references.questions))
    epochs = len(learned(context)[LOSSES]) - 1
    assert 1.4 * epochs * references < answers[0].setup_flops < 3.5 * epochs * references
    assert {a.setup_flops for a in answers} == {answers[0].setup_flops}
    sizes = {"lora": 3 * 4 * 2 * 64 - 2 * 3 * 2 * 16, "router-tuning": 3 * 8 * 32}
    sizes |= {"prompt-tuning": 4 * 32, "prefix-tuning": 4 * 3 * 2 * 16}
    assert {a.parameters for a in answers} == {sizes[strategy.name]}
    for answer, plain in zip(answers, base, strict=True):
        assert plain <= answer.cost.total < 1.5 * plain
        assert answer.seconds > 0 or not kept(context)


def test_layers_below_are_run_once():
    costs = {}
    for layers in ("all", (2,)):
        context = context_of()
        costs[layers] = replace(ROUTERS, layers=layers).prepare(context).answer(ASKED)[0].setup_flops
        assert context.references.learned
    assert costs[2,] < 0.6 * costs["all"]


def test_only_what_is_named_is_trained():
    for strategy, layers in ((ROUTERS, (1,)), (LORA, (0, 2))):
        context = context_of()
        replace(strategy, layers=layers).prepare(context)
        names = learned(context).keys() - {FLOPS, LOSSES}
        assert names
        assert all(any(f"{layer}." in name for layer in layers) for name in names)


@EACH
def test_in_bfloat16(strategy):
    """What is trained is kept in float32, for small steps would be lost."""
    model = RoutedModel(tiny_moe("qwen2_moe").to(torch.bfloat16), tiny_tokenizer(), name="half")
    context = context_of(model=model)
    before = Picture(model)
    answers = replace(strategy, lr=1e-2).prepare(context).answer(ASKED)
    assert Picture(model) == before
    assert all(t.dtype == torch.float32 for n, t in learned(context).items() if n not in (FLOPS, LOSSES))
    assert len(answers) == len(ASKED)


class TestRefused:
    @EACH
    def test_without_references(self, strategy):
        context = replace(context_of(), build_references=lambda: None)
        with pytest.raises(SettingError, match=f"{strategy.name} expected references, got none"):
            strategy.prepare(context)
        with pytest.raises(SettingError, match=f"{strategy.name} expected at least 10 references.* got 0"):
            strategy.fits(context.strategies, (0, 1, 2), 8, 0)

    @EACH
    def test_with_too_few(self, strategy):
        context = context_of()
        asked = replace(context, held_out=frozenset(q.id for q in context.references.questions[:11]))
        with pytest.raises(SettingError, match="at least 10 references that are not asked themselves, got 9"):
            strategy.prepare(asked)
        with pytest.raises(SettingError, match="at least 10 references that are not asked themselves, got 9"):
            strategy.fits(context.strategies, (0, 1, 2), 8, 9)
        strategy.fits(context.strategies, (0, 1, 2), 8, 10)

    @pytest.mark.parametrize("strategy", [LORA, PROMPT, PREFIX], ids=lambda s: s.name)
    def test_without_peft(self, strategy, monkeypatch):
        find = importlib.util.find_spec
        monkeypatch.setattr("c3po_tuned.base.find_spec", lambda name: None if name == "peft" else find(name))
        context = context_of()
        for call in (lambda: strategy.prepare(context), lambda: strategy.fits(context.strategies, (0, 1, 2), 8, 20)):
            with pytest.raises(SettingError, match=r"pip install 'c3po_adaptive\[tuning\]'"):
                call()
        ROUTERS.fits(context.strategies, (0, 1, 2), 8, 20)

    def test_layers_that_are_not_there(self):
        context = context_of()
        with pytest.raises(SettingError, match=r"among the MoE layers \(0, 1, 2\), got \[7\]"):
            replace(ROUTERS, layers=(1, 7)).fits(context.strategies, (0, 1, 2), 8, 20)
        with pytest.raises(SettingError, match=r"among the decoder layers \(0, 1, 2\), got \[3\]"):
            replace(LORA, layers=[3]).prepare(context)

    @pytest.mark.parametrize(
        ("make", "said"),
        [
            (lambda: LoRA(r=0), "lora.r to be a whole number >= 1"),
            (lambda: LoRA(alpha=0), "lora.alpha to be a finite number > 0"),
            (lambda: LoRA(lr=0.0), "lora.lr to be a finite number > 0"),
            (
                lambda: LoRA(targets="routers"),
                "lora.targets to be one of 'attention', 'linear', 'experts', got 'routers'",
            ),
            (lambda: LoRA(layers="last"), "'all', 'last-five', or a list of whole numbers, got 'last'"),
            (lambda: LoRA(layers=()), "a list of whole numbers"),
            (lambda: RouterTuning(layers=(True,)), "a list of whole numbers"),
            (lambda: RouterTuning(epochs=0), "router-tuning.epochs to be a whole number >= 1"),
            (lambda: RouterTuning(batch=1.5), "router-tuning.batch to be a whole number"),
            (lambda: RouterTuning(patience=0), "router-tuning.patience to be a whole number"),
            (lambda: PromptTuning(tokens=0), "prompt-tuning.tokens to be a whole number >= 1"),
            (lambda: PrefixTuning(tokens=None), "prefix-tuning.tokens to be a whole number"),
        ],
    )
    def test_parameters_that_have_no_meaning(self, make, said):
        with pytest.raises(SettingError, match=said):
            make()

    def test_a_loss_that_is_no_number(self):
        with pytest.raises(
            ModelError, match="lora expected a finite loss while training, got NaN or infinity; lower lr"
        ):
            replace(LORA, lr=1e30, epochs=5).prepare(context_of())

    def test_of_a_model_that_gives_none_by_itself_it_says_so(self, monkeypatch):
        monkeypatch.setattr(WholePrompts, "scores", lambda self, prompts, *_: torch.full((len(prompts), 2), torch.nan))
        with pytest.raises(ModelError, match="the model's own weights"):
            ROUTERS.prepare(context_of())

    def test_memory_that_is_not_there(self, monkeypatch):
        def full(*args):
            raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 8 bytes")

        monkeypatch.setattr(WholePrompts, "scores", full)
        with pytest.raises(SettingError, match=r"router-tuning expected memory for 8 references at once.*Set batch"):
            ROUTERS.prepare(context_of())

    def test_families_without_linear_attention(self):
        model = RoutedModel(tiny_moe("nemotron_h"), tiny_tokenizer(), name="nemotron_h")
        said = r"lora expected NemotronHForCausalLM of the family nemotron_h to have linear layers.*router-tuning"
        with pytest.raises(ModelError, match=said):
            LORA.prepare(context_of(model=model))
