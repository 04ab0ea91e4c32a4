"""Neighbours as solved examples: which, where, how many, and what they take."""

import json
from dataclasses import replace

import pytest
from c3po_baselines import InContext
from contexts import context_of, longest, made, references
from records.made import rows_in
from study.configs import parse_config

from c3po_adaptive.errors import SettingError
from c3po_adaptive.models.routed import RoutedModel
from c3po_adaptive.references.build import build_reference_set
from c3po_adaptive.report.sentences import sentences
from c3po_adaptive.study.comparison import STUDY
from c3po_adaptive.tasks.formats import Cloze, Letter
from c3po_adaptive.testing import tiny_moe, tiny_tokenizer, write_tiny_checkpoint
from c3po_adaptive.testing.answerers import ToyEmbedder

ASKED = made(4, "asked", longest)
NEAR = {"retriever": {"name": "faiss-knn", "k": 3}}


@pytest.mark.parametrize(
    "format", [Cloze(), Letter(), Cloze(shots=tuple(made(1, "shot", longest)))], ids=["cloze", "letter", "shot"]
)
def test_the_nearest_stand_before_the_question_solved_the_nearest_last(format):
    known = references(longest, 30)
    if format != Cloze():
        known = build_reference_set(context_of(None).model, known.questions, ToyEmbedder(), format=format)
    context = context_of(known, NEAR, format=format, settings={"learn_from": "all"})
    for question, answer in zip(ASKED, InContext().prepare(context).answer(ASKED), strict=True):
        by_id = {q.id: q for q in known.questions}
        similarity = [s for _, s, _ in answer.neighbours]
        assert similarity == sorted(similarity, reverse=True)
        shots = tuple(by_id[id_] for id_, _, _ in reversed(answer.neighbours))
        assert len(shots) == 3
        longer = replace(format, shots=format.shots + shots)
        assert answer.scores == pytest.approx(context.model.score_choices(question, format=longer).tolist(), abs=1e-4)
        assert answer.cost.prefill == context.model.plain_work(context.model.encode(question, longer)).flops
        assert answer.base_flops == context.model.plain_work(context.model.encode(question, format)).flops
        assert answer.base_scores == tuple(context.model.score_choices(question, format=format).tolist())


def test_are_those_of_the_arms_retriever_and_settings():
    known = references(longest, 30)
    right = {q.id for q in known.successes.questions}
    assert all(
        {n[0] for n in a.neighbours} <= right for a in InContext().prepare(context_of(known, NEAR)).answer(ASKED)
    )
    settings = {"learn_from": "all"}
    near, drawn, shuffled = (
        InContext().prepare(context_of(known, specs, settings=settings | more)).answer(ASKED)
        for specs, more in ((NEAR, {}), ({"retriever": "random"}, {}), (NEAR, {"labels": "shuffled"}))
    )
    assert [a.neighbours for a in near] == [a.neighbours for a in shuffled] != [a.neighbours for a in drawn]
    assert [a.scores for a in near] != [a.scores for a in shuffled]


def test_a_reference_is_no_example_of_itself():
    known = references(longest, 30)
    answers = InContext().prepare(context_of(known, NEAR, settings={"learn_from": "all"})).answer(known.questions)
    assert all(q.id not in {n[0] for n in a.neighbours} for q, a in zip(known.questions, answers, strict=True))


def test_costs_what_the_set_had_to_be_run_for():
    """Which of them the model answers right has to be found out; that all may be examples has not."""
    known = references(longest, 30)
    context = context_of(known, NEAR)
    prompts = sum(context.model.plain_work(prompt).flops for prompt in context.prompts(known.questions))
    assert InContext().prepare(context).answer(ASKED)[0].setup_flops == pytest.approx(prompts)
    assert (
        InContext().prepare(context_of(known, NEAR, settings={"learn_from": "all"})).answer(ASKED)[0].setup_flops == 0
    )


class TestMoreThanTheContextHolds:
    """A model of 160 characters; a question with its answer takes about 50."""

    @pytest.fixture
    def context(self):
        model = RoutedModel(tiny_moe("olmoe", max_position_embeddings=160), tiny_tokenizer(), name="short")
        known = build_reference_set(model, references(longest, 30).questions, ToyEmbedder())
        six = {"retriever": {"name": "faiss-knn", "k": 6}}
        return context_of(known, six, model=model, settings={"learn_from": "all"})

    def test_the_nearest_that_fit_are_used(self, context):
        near = context.nearest(ASKED)
        for question, found, answer in zip(ASKED, near, InContext().prepare(context).answer(ASKED), strict=True):
            used = [id_ for id_, _, _ in answer.neighbours]
            assert 0 < len(used) < 6
            assert used == [q.id for q, _ in found[: len(used)]]
            assert [weight for _, _, weight in answer.neighbours] == [1 / len(used)] * len(used)
            one_more = Cloze(shots=tuple(q for q, _ in reversed(found[: len(used) + 1])))
            prompt = one_more.prompt(question, context.model.tokenizer, 10**6)
            assert len(prompt.ids) + max(map(len, prompt.options)) > 160

    def test_none_if_none_fits(self, context):
        question = replace(ASKED[0], question="la" * 50)
        (answer,) = InContext().prepare(context).answer([question])
        assert answer.neighbours == ()
        assert answer.scores == answer.base_scores

    def test_a_run_says_how_many_were_used(self, tmp_path, monkeypatch):
        monkeypatch.setenv("C3PO_CACHE", str(tmp_path / "cache"))
        write_tiny_checkpoint(tmp_path / "model", "olmoe", max_position_embeddings=160)
        paths = {name: tmp_path / f"{name}.jsonl" for name in ("known", "asked")}
        for name, count in (("known", 20), ("asked", 4)):
            rows = [vars(q) for q in made(count, name, longest)]
            paths[name].write_text("".join(json.dumps(row) + "\n" for row in rows))
        data = {"name": "made", "questions": str(paths["asked"]), "split": None, "references": [str(paths["known"])]}
        examples = {"answerer": "in-context", "learn_from": "all"}
        arms = {"base": {"optimizer": "none"}} | {
            f"{k}": examples | {"retriever": {"name": "faiss-knn", "k": k}} for k in (1, 6)
        }
        arms["calibrated"] = arms["6"] | {"answerer": {"name": "surface-logit", "of": "in-context"}}
        config = parse_config({"model": str(tmp_path / "model"), "datasets": [data], "arms": arms})
        summary = STUDY.run(config, tmp_path / "run")
        used = [row["neighbours_used"] for row in rows_in(tmp_path / "run") if row["arm"] == "6"]
        mean = sum(used) / len(used)
        assert max(used) < 6
        said = {line.split(":")[0]: line for line in sentences(summary)}
        wanted = f"it used {mean:.1f} of 6 neighbours on average: no more were found, or fit into the context"
        assert wanted in said["6"]
        assert wanted in said["calibrated"]
        assert "neighbours on average" not in said["1"]
        assert wanted in (tmp_path / "run" / "report.html").read_text()


def test_needs_references():
    with pytest.raises(SettingError, match="in-context expected references, got none"):
        InContext().prepare(context_of(None))
