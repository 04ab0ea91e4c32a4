"""Reference sets: built, written whole, checked when read, and resumed after an interruption."""

import json
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from itertools import islice

import pytest
import torch
from routing.naive import FAMILIES, choice_scores, own_routing, routed_model, shared_model
from routing.toys import HashEmbedder, questions, reference_set

from c3po_adaptive.errors import DataError
from c3po_adaptive.models.fingerprint import fingerprint
from c3po_adaptive.progress import silent
from c3po_adaptive.references import build
from c3po_adaptive.references.build import build_reference_set, forget_shards
from c3po_adaptive.references.reference_set import ReferenceSet
from c3po_adaptive.tasks.formats import Cloze


@pytest.fixture(params=FAMILIES)
def family(request):
    return request.param


@pytest.fixture
def references():
    return reference_set("olmoe")


class TestBuilding:
    def test_holds_what_the_model_does(self, family):
        model, built = shared_model(family), reference_set(family)
        assert built.questions == tuple(questions(24))
        assert built.embeddings.dtype == torch.float32
        assert (
            built.embeddings.numpy().tolist() == HashEmbedder().encode([q.question for q in built.questions]).tolist()
        )
        for i in (0, 7, 23):
            prompt = model.encode(built.questions[i])
            with torch.no_grad():
                expected, (weights, _) = choice_scores(model.model, prompt), own_routing(model.model, prompt.ids)
            torch.testing.assert_close(torch.tensor(built.scores[i]), expected, atol=1e-5, rtol=0)
            torch.testing.assert_close(built.pathways[i], weights[-1], atol=1e-5, rtol=0)
            assert built.correct[i] == (expected.argmax() == built.questions[i].answer)

    def test_successes(self, family):
        built = reference_set(family)
        assert 0 < len(built.successes) < len(built), "the toy has right and wrong answers"
        picked = built.successes
        assert picked.correct.all()
        assert picked.questions == tuple(q for q, right in zip(built.questions, built.correct, strict=True) if right)
        assert torch.equal(picked.pathways, built.pathways[built.correct])

    def test_card(self, references):
        card = references.card
        right = int(references.correct.sum())
        assert (card["questions"], card["successes"]) == (24, right)
        assert card["success_rate"] == pytest.approx(right / 24)
        assert card["model"] == fingerprint(shared_model("olmoe"))
        assert card["embedder"] == {"name": "hash", "revision": "1"}
        assert card["format"].startswith("cloze")
        assert card["layers"] == [0, 1, 2]
        assert {"torch", "transformers"} <= card["versions"].keys()

    def test_states_stay_as_long_as_there_is_room(self):
        model = routed_model("olmoe")
        build_reference_set(model, questions(3), HashEmbedder())
        assert len(model._states) == 3

    def test_every_question_needs_an_answer(self):
        asked = questions(3)
        with pytest.raises(DataError, match="none for r1;"):
            build_reference_set(shared_model("olmoe"), [asked[0], replace(asked[1], answer=None)], HashEmbedder())
        with pytest.raises(DataError, match="no questions at all"):
            build_reference_set(shared_model("olmoe"), [], HashEmbedder())
        with pytest.raises(DataError, match=r"question 2: expected each id once, got .* again \(first in question 0\)"):
            build_reference_set(shared_model("olmoe"), [*asked[:2], replace(asked[1], id=asked[0].id)], HashEmbedder())

    def test_two_that_build_one_set_forget_their_shards_in_any_order(self, tmp_path):
        built = build_reference_set(shared_model("olmoe"), questions(3), HashEmbedder(), scratch=tmp_path / "parts")
        for _ in range(2):
            forget_shards(built, tmp_path / "parts")
        assert not list((tmp_path / "parts").iterdir())


class TestInterruption:
    @pytest.fixture(autouse=True)
    def small_shards(self, monkeypatch):
        monkeypatch.setattr(build, "SHARD", 4)

    @staticmethod
    def build(model, scratch, progress=silent):
        run = []

        def watched(prompts, **options):
            run.extend(prompts)
            return original(prompts, **options)

        original, model.prefill = model.prefill, watched
        try:
            return build_reference_set(model, questions(10), HashEmbedder(), scratch=scratch, progress=progress), run
        finally:
            del model.prefill

    @staticmethod
    def interrupted(questions, label):
        yield from islice(questions, 8)
        raise KeyboardInterrupt

    def test_goes_on_where_it_stopped(self, tmp_path):
        model = routed_model("olmoe")
        with pytest.raises(KeyboardInterrupt):
            self.build(model, tmp_path / "building", self.interrupted)
        part = min((tmp_path / "building").rglob("*.safetensors"))
        content = part.read_bytes()
        part.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
        with pytest.raises(DataError, match="missing, cut short or altered; delete it, and build again to resume"):
            self.build(model, tmp_path / "building")
        part.write_bytes(content)
        built, run = self.build(model, tmp_path / "building")
        assert [p.ids for p in run] == [model.encode(q).ids for q in questions(10)[8:]]
        whole, run = self.build(model, None)
        assert len(run) == 10
        for name in ("embeddings", "pathways", "correct"):
            assert torch.equal(getattr(built, name), getattr(whole, name))
        assert built.scores == whole.scores
        assert built.card == whole.card
        assert len(list(tmp_path.rglob("*.safetensors"))) == 3, "the shards stay until the set is kept"
        (tmp_path / "building" / "notes.txt").write_text("mine")
        forget_shards(built, tmp_path / "building")
        assert [p.name for p in (tmp_path / "building").iterdir()] == ["notes.txt"]

    def test_not_with_another_model(self, tmp_path):
        with pytest.raises(KeyboardInterrupt):
            self.build(routed_model("olmoe"), tmp_path, self.interrupted)
        _, run = self.build(routed_model("olmoe", seed=1), tmp_path)
        assert len(run) == 10


def test_of_two_that_lack_a_set_one_builds_it_and_the_other_waits(tmp_path, monkeypatch):
    """Both at once would run every question twice, and clear away each other's shards."""
    monkeypatch.setenv("C3PO_CACHE", str(tmp_path))
    original, built = build.build_reference_set, []

    def slow(*given, **options):
        built.append(given)
        time.sleep(0.3)
        return original(*given, **options)

    monkeypatch.setattr(build, "build_reference_set", slow)
    asked = questions(10), shared_model("olmoe"), HashEmbedder(), "cloze"
    with ThreadPoolExecutor(2) as pool:
        one, other = pool.map(lambda _: build.reference_set_of(*asked), range(2))
    assert len(built) == 1
    assert one.folder == other.folder
    assert torch.equal(one.pathways, other.pathways)


class TestFolder:
    def test_round_trip(self, family, tmp_path):
        built = reference_set(family)
        again = ReferenceSet.load(built.save(tmp_path / "set"))
        assert again.questions == built.questions
        assert again.scores == built.scores
        for name in ("embeddings", "pathways", "correct"):
            assert torch.equal(getattr(again, name), getattr(built, name))
        assert again.card == built.card | {"files": again.card["files"]}
        assert sorted(p.name for p in tmp_path.iterdir()) == ["set"]
        again.check(shared_model(family), "cloze", HashEmbedder())

    def test_what_a_question_is_about_survives(self, references, tmp_path):
        told = replace(references.questions[0], about="Boats.")
        again = ReferenceSet.load(replace(references, questions=(told, *references.questions[1:])).save(tmp_path / "a"))
        assert again.questions[0].about == "Boats." and again.questions == (told, *references.questions[1:])
        card = json.loads((references.save(tmp_path / "without") / "card.json").read_text())
        assert "about" not in card

    def test_unknown_labels_of_a_question_survive(self, references, tmp_path):
        plain = replace(references, questions=tuple(replace(q, subject="", split="x") for q in references.questions))
        assert ReferenceSet.load(plain.save(tmp_path / "set")).questions == plain.questions

    @pytest.mark.parametrize("name", ["questions.parquet", "tensors.safetensors"])
    @pytest.mark.parametrize("damage", ["cut short", "altered", "missing"])
    def test_damage_is_found(self, references, tmp_path, name, damage):
        file = references.save(tmp_path / "set") / name
        content = file.read_bytes()
        if damage == "cut short":
            file.write_bytes(content[:-1])
        elif damage == "altered":
            file.write_bytes(content[:100] + bytes([content[100] ^ 1]) + content[101:])
        else:
            file.unlink()
        with pytest.raises(DataError, match=f"{name} is missing, cut short or altered"):
            ReferenceSet.load(tmp_path / "set")

    def test_no_reference_set(self, tmp_path):
        with pytest.raises(DataError, match=r"a folder with card\.json"):
            ReferenceSet.load(tmp_path)

    def test_failure_in_the_middle_leaves_the_old_set(self, references, tmp_path, monkeypatch):
        folder = references.save(tmp_path / "set")

        def full(*args):
            raise OSError("no space left on device")

        monkeypatch.setattr("pathlib.Path.write_bytes", full)
        few = references.subset(torch.arange(3))
        with pytest.raises(DataError, match="no space left on device; choose a writable folder"):
            few.save(folder)
        with pytest.raises(DataError, match="no space left"):
            few.save(tmp_path / "other")
        assert not (tmp_path / "other").exists()
        assert len(ReferenceSet.load(folder)) == 24
        monkeypatch.undo()
        assert len(ReferenceSet.load(few.save(folder))) == 3, "what the failure left does not stand in the way"
        assert sorted(p.name for p in tmp_path.iterdir() if p.name.startswith("set")) == ["set"]

    def test_unwritable_folder(self, references, tmp_path):
        (tmp_path / "file").write_text("")
        with pytest.raises(DataError, match=r"a folder to write to, got .*set'?: .*writable folder"):
            references.save(tmp_path / "file" / "set")


class TestChecks:
    def test_another_model(self, references):
        another = routed_model("olmoe", seed=1)
        another.name, of = "folder/of/mine", references.card
        said = rf"folder/of/mine \({another.fingerprint[:8]}\), .*{of['model_name']} \({of['model'][:8]}\); name"
        with pytest.raises(DataError, match=said):
            references.check(another, "cloze", HashEmbedder())

    @pytest.mark.parametrize("format", ["letter", Cloze(normalize="none")])
    def test_another_format(self, references, format):
        with pytest.raises(DataError, match=r"built with format .*cloze"):
            references.check(shared_model("olmoe"), format, HashEmbedder())

    def test_another_embedder(self, references):
        class Another(HashEmbedder):
            revision = "2"

        with pytest.raises(DataError, match=r"built with embedder .*build the set again"):
            references.check(shared_model("olmoe"), "cloze", Another())

    @pytest.mark.parametrize("other", ["tokenizer", "configuration"])
    def test_another_tokenizer_or_configuration(self, references, other):
        """Of the same weights."""
        model = routed_model("olmoe")
        references.check(model, "cloze", HashEmbedder())
        if other == "tokenizer":
            model.tokenizer.add_tokens(["water"])
        else:
            model.model.config.rms_norm_eps = 1e-3
        with pytest.raises(DataError, match="the configuration and tokenizer"):
            references.check(model, "cloze", HashEmbedder())

    def test_no_success(self, references):
        failures = references.subset((~references.correct).nonzero().squeeze(1))
        with pytest.raises(DataError, match=r"right, got none among \d+"):
            failures.check(shared_model("olmoe"), "cloze", HashEmbedder())
