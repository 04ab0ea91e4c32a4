"""The bed's kinds by name: families, licences, cases, files and the Hub's rows."""

import json
from collections import Counter
from pathlib import Path

import pytest
from c3po_bed import FAMILIES, KINDS, LEARNED, SIBLINGS, UNKNOWN, cases
from c3po_bed.hub_kinds import HUB
from c3po_bed.hub_questions import SIZES, fingerprint, fingerprints, from_hub, learned
from c3po_bed.wording import wordings
from c3po_benchmarks import published_questions, reading

from c3po_adaptive.analysis.dataset_in_words import DatasetsInWords
from c3po_adaptive.cli.demo import _called
from c3po_adaptive.errors import DataError, UnknownNameError
from c3po_adaptive.tasks import questions
from c3po_adaptive.tasks.question_files import load_questions
from c3po_adaptive.tasks.sources import ASKED, LEARNED_FROM
from c3po_adaptive.types import Question

BED = Path(__file__).parents[4] / "shared" / "pool"
needs_files = pytest.mark.skipif(not BED.is_dir(), reason="the bed's files are not beside the checkout")
NEVER_LEARNED = {"dream_dialogue", "dream_next_turn", "logiqa", "sciq", "lsat_argument", "lsat_games", "sat_math"}
NEVER_LEARNED |= {"text_genre"}
SPLITS = ("train", "references", "validation", "test")


def row(kind, split, number):
    """An invented question in a kind's words."""
    wording = wordings().get(kind)
    question = f"{kind} {split} {number}"
    choices = ["left", "right"]
    if wording:
        question = wording.asked.format_map(dict.fromkeys(("text", "claim", "first", "second"), question) | SPARE)
    if wording and wording.anew:
        choices = [*wording.anew[0].answers]
    return {"id": f"{kind}/{split}{number}", "question": question, "choices": choices, "answer": number % len(choices)}


SPARE = {"place": "Oslo", "name": "Ona", "words": "a word", "asked": "Is it so?"}


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Four files of two rows for each kind; those that no expert learns have no train rows."""
    for kind in KINDS:
        for split in SPLITS if kind in LEARNED else SPLITS[1:]:
            text = "".join(json.dumps(row(kind, split, n)) + "\n" for n in range(2))
            (tmp_path / f"{kind}.{split}.jsonl").write_text(text)
    monkeypatch.setenv("C3PO_BED", str(tmp_path))
    return tmp_path


class TestFamilies:
    def test_a_kind_is_of_one_family_and_case(self):
        named = [kind for family in FAMILIES.values() for kind in (*family.learned, *family.siblings)]
        assert max(Counter(named).values()) == 1
        assert Counter([*LEARNED, *SIBLINGS, *UNKNOWN]) == Counter([*KINDS])
        assert len(KINDS) == 87
        assert len(UNKNOWN) > 20

    def test_nothing_is_learned_from_what_is_for_non_commercial_use(self):
        held = {kind for kind, about in KINDS.items() if about.source.terms in ("non-commercial", "disputed")}
        assert held >= NEVER_LEARNED
        assert not held & LEARNED.keys()

    def test_each_kind_says_where_it_is_from(self):
        for kind, about in KINDS.items():
            assert about.about, kind
            assert "/" in about.source.where, kind
            assert about.source.licence, kind

    @needs_files
    def test_the_table_is_that_of_the_files(self):
        there = {tuple(file.name.split(".")[:2]) for file in BED.glob("*.jsonl")}
        assert {kind for kind, _ in there} == {*KINDS}
        assert {(kind, split) for kind in KINDS for split in SPLITS[1:]} <= there
        assert {(kind, "train") for kind in LEARNED} <= there


class TestCases:
    def test_each_asks_its_own_kinds(self, folder):
        for case, kinds in cases().items():
            found = questions(f"bed:{case}", split="test")
            assert Counter(one.task for one in found) == dict.fromkeys(kinds, 2), case
            assert all(one.subject == one.task and one.split == "test" for one in found)
        assert {*cases()["reworded"]} <= {*cases()["seen"]}

    def test_a_kind_by_its_name_is_the_beds_and_not_the_benchmark(self, folder):
        (easy, _) = questions("bed:arc_easy:validation")
        assert easy.question == "Science class: arc_easy validation 0"
        assert easy.id == "arc_easy/validation0"

    def test_several_are_named_with_commas_and_each_kind_is_asked_once(self, folder):
        found = questions("bed:sciq,sibling,arc_easy,sciq:test")
        assert Counter(one.task for one in found) == dict.fromkeys(("sciq", *SIBLINGS, "arc_easy"), 2)
        both = questions("bed:seen,reworded:test")
        assert both == questions("bed:seen:test") + questions("bed:reworded:test")
        with pytest.raises(UnknownNameError, match=r"'arc_eazy'.*arc_easy"):
            questions("bed:sciq,arc_eazy:test")

    def test_usual_splits(self, folder):
        assert questions("bed:seen", usual=ASKED) == questions("bed:seen:test")
        assert questions("bed:seen", usual=LEARNED_FROM) == questions("bed:seen:references")
        assert questions("bed:seen:validation", split="test") == questions("bed:seen", split="validation")

    def test_a_limit_is_spread_and_stable(self, folder):
        some = questions("bed:all:test", limit=40)
        assert len(some) == 40
        assert len({one.task for one in some}) > 20
        assert questions("bed:all:test", limit=20) == some[:20]

    def test_nothing_is_in_the_place_of_what_is_not_there(self, monkeypatch):
        monkeypatch.delenv("C3PO_BED", raising=False)
        monkeypatch.setattr("c3po_bed.case_questions.from_hub", lambda kind, split: [])
        with pytest.raises(DataError, match="bed:boolq: expected at least one question, got none"):
            questions("bed:boolq:test")

    def test_results_call_it_by_its_name(self):
        assert {_called(f"bed:seen{split}") for split in ("", ":test", ":validation")} == {"bed:seen"}

    def test_train_rows_are_of_learned_kinds(self, folder):
        assert {one.task for one in questions("bed:seen:train")} == {*LEARNED}
        assert {one.id.split("/")[-1] for one in questions("bed:reworded:train")} == {"r1", "r2"}


LETTERED = {"id": "own", "question": "What floats?", "choices": {"text": ["lead", "cork"], "label": ["A", "B"]}}
HUB_ROWS = {
    "agnews_topic": ({"text": "Rates &amp; rents rise  again.", "label": 2}, "Business"),
    "arc_challenge": (LETTERED | {"answerKey": "B"}, "cork"),
    "arc_easy": (LETTERED | {"answerKey": "B"}, "cork"),
    "boolq": ({"question": "is cork light", "answer": True}, "yes"),
    "commonsense_qa": (LETTERED | {"answerKey": "A"}, "lead"),
    "hellaswag": ({"activity_label": "Sailing", "ctx": "She", "endings": ["a", "b"], "label": "1"}, "b"),
    "mmlu_humanities": ({"question": "Q?", "choices": ["a", "b"], "answer": 1, "subject": "philosophy"}, "b"),
    "mmlu_medicine": ({"question": "Q?", "choices": ["a", "b"], "answer": 1, "subject": "virology"}, "b"),
    "mmlu_other": ({"question": "Q?", "choices": ["a", "b"], "answer": 1, "subject": "marketing"}, "b"),
    "mmlu_social": ({"question": "Q?", "choices": ["a", "b"], "answer": 1, "subject": "sociology"}, "b"),
    "movie_review_polarity": ({"text": "it 's fun -lrb- and long -rrb- , is n't it ?", "label": 1}, "yes"),
    "piqa": ({"goal": "Float", "sol1": "lead", "sol2": "cork", "label": 1}, "cork"),
    "pubmedqa_closed": ({"question": "Does it?", "long_answer": "It does.", "final_decision": "maybe"}, "maybe"),
    "pubmedqa_conclusion": ({"question": "Does it?", "long_answer": "It does.", "final_decision": "yes"}, "yes"),
    "sciq": ({"question": "Q?", "correct_answer": "a"} | {f"distractor{n}": f"d{n}" for n in (1, 2, 3)}, "a"),
    "social_iqa": ({"context": "C.", "question": "Q?", "label": "3"} | {f"answer{one}": one for one in "ABC"}, "C"),
    "sst5_stars": ({"text": "so so .", "label": 2}, "mixed"),
    "svamp_operation": ({"Body": "If 8 share 4", "Question": "How many each?", "Type": "Common-Divison"}, "division"),
    "tweet_emotion": ({"text": "grr", "label": 0}, "anger"),
    "tweet_hate": ({"text": "hm", "label": 0}, "no"),
    "tweet_irony": ({"text": "sure", "label": 1}, "yes"),
    "tweet_offensive": ({"text": "hm", "label": 0}, "not offensive"),
    "tweet_sentiment": ({"text": "hm", "label": 1}, "neutral"),
    "tweet_stance_abortion": ({"text": "hm #SemST", "label": 2}, "in favour"),
    "tweet_stance_climate": ({"text": "hm #SemST", "label": 0}, "neither"),
    "tweet_stance_feminist": ({"text": "hm #SemST", "label": 1}, "against"),
    "tweet_stance_hillary": ({"text": "hm #SemST", "label": 1}, "against"),
    "winogrande": ({"sentence": "The _ sank.", "option1": "key", "option2": "cork", "answer": "1"}, "key"),
}  # fmt: skip
PLAIN = {
    "agnews_topic": "Which topic is this news article about?\nRates & rents rise again.",
    "movie_review_polarity": "Did the critic like the movie?\nit's fun (and long), isn't it?",
    "svamp_operation": "Which operation solves this problem?\nIf 8 share 4. How many each?",
    "tweet_stance_abortion": "What stance does this tweet take on the legalisation of abortion?\nhm",
    "boolq": "Is cork light?",
}


class TestHub:
    @pytest.mark.parametrize("kind", HUB)
    def test_a_row_in_the_beds_words(self, monkeypatch, kind):
        hub_row, right = HUB_ROWS[kind]
        monkeypatch.setattr(reading, "from_hub", lambda *where: [hub_row])
        ((_, found),) = published_questions(HUB[kind].benchmark, kind, "test")
        assert found.choices[found.answer] == right
        assert wordings()[kind].parts(found.question)
        assert PLAIN.get(kind, found.question) == found.question

    def test_labels_that_are_not_offered_and_other_subjects_are_left_out(self):
        assert HUB["tweet_stance_climate"].benchmark.fields({"text": "hm", "label": 1}) is None
        exam = HUB_ROWS["mmlu_other"][0] | {"subject": "virology"}
        assert HUB["mmlu_other"].benchmark.fields(exam) is None

    def test_splits_are_apart_balanced_and_without_what_was_learned(self, monkeypatch):
        monkeypatch.delenv("C3PO_BED", raising=False)
        table = [{"text": f"tweet {n}", "label": int(n % 5 == 0)} for n in range(2000)]
        monkeypatch.setattr(reading, "from_hub", lambda path, config, split, revision: table)
        asked = wordings()["tweet_irony"].asked
        known = {fingerprint(asked.format(text=f"Tweet: {n}")) for n in range(1000)}
        monkeypatch.setattr("c3po_bed.hub_questions.learned", lambda: known)
        found = {split: questions(f"bed:tweet_irony:{split}") for split in SIZES}
        assert {split: len(rows) for split, rows in found.items()} == SIZES
        assert Counter(one.choices[one.answer] for one in found["test"]) == {"yes": 30, "no": 30}
        numbers = [int(one.question.split()[-1]) for rows in found.values() for one in rows]
        assert min(numbers) >= 1000
        assert not {one.id for one in found["validation"]} & {one.id for one in found["test"]}
        assert {(one.task, one.subject, one.split) for one in found["test"]} == {("tweet_irony", "tweet_irony", "test")}

    def test_of_several_kinds_those_that_are_there_with_a_warning(self, monkeypatch):
        monkeypatch.delenv("C3PO_BED", raising=False)
        own = lambda kind, split: [Question(kind, "?", ("a", "b"), 0)]  # noqa: E731
        monkeypatch.setattr("c3po_bed.case_questions.from_hub", own)
        with pytest.warns(
            UserWarning,
            match=r"bed:sibling: 8 of 16 kinds come from the Hub; 8 in files alone are left out, as \$C3PO_BED",
        ):
            found = questions("bed:sibling:test")
        assert [one.task for one in found] == [kind for kind in SIBLINGS if kind in HUB]

    def test_made_options_are_in_files_alone(self):
        assert not [kind for kind in HUB if KINDS[kind].made and kind != "svamp_operation"]
        assert HUB.keys() <= wordings().keys()

    @needs_files
    def test_fingerprints_are_of_the_train_rows(self):
        rows = [(kind, one) for kind in LEARNED for one in load_questions(BED / f"{kind}.train.jsonl")]
        assert set().union(*(fingerprints(kind, one) for kind, one in rows)) == learned()
        assert len(rows) > 10_000

    @needs_files
    def test_what_was_learned_in_another_kind_is_not_asked(self, monkeypatch):
        """A study's question is asked alone in one kind, and learned with its conclusion in another."""
        monkeypatch.setenv("C3PO_BED", str(BED))
        there, asked = load_questions(BED / "pubmedqa_closed.test.jsonl"), questions("bed:pubmedqa_closed:test")
        assert (len(there), len(asked)) == (60, 38)
        left = {one.id for one in there} - {one.id for one in asked}
        train = [one.question for one in load_questions(BED / "pubmedqa_conclusion.train.jsonl")]
        texts = [wordings()["pubmedqa_closed"].parts(one.question) for one in there if one.id in left]
        assert all(any(part in row for part in parts.values() for row in train) for parts in texts)

    @needs_files
    def test_benchmarks_and_files_ask_in_the_same_words(self):
        for kind in HUB:
            wording = wordings()[kind]
            odd = [one.id for one in load_questions(BED / f"{kind}.test.jsonl") if not wording.parts(one.question)]
            assert odd == [], kind


def test_from_hub_draws_nothing_from_nothing(monkeypatch):
    monkeypatch.setattr("c3po_bed.hub_questions.published_questions", lambda *where: [])
    assert from_hub("boolq", "test") == []


def test_its_sets_go_by_their_whole_names():
    asked = {"name": "d", "questions": "bed:seen:test", "references": ["bed:seen:references", "bed:sibling"]}
    said = DatasetsInWords({"datasets": [asked]}).references("d")
    assert said == "bed:seen (same set) + bed:sibling"
