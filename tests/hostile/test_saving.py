"""Saving replaces files of its own kind, each in one step, and nothing else: whatever the folder is."""

from dataclasses import replace

import pytest
import torch
from hostile.doors import Killed, is_refused, killed_at, passed, untouched
from routing.naive import routed_model
from routing.toys import HashEmbedder, questions

from c3po_adaptive.errors import DataError
from c3po_adaptive.references.build import build_reference_set
from c3po_adaptive.references.prefill_store import build_store, open_store
from c3po_adaptive.references.reference_set import ReferenceSet

pytestmark = pytest.mark.usefixtures("cards")


@pytest.fixture(scope="module")
def model():
    return routed_model("olmoe")


@pytest.fixture(scope="module")
def references(model):
    return build_reference_set(model, questions(24), HashEmbedder())


@pytest.fixture(scope="module")
def pathway(model):
    return model.with_origin(model.pathway("Is it so?"), "Is it so?")


TAGGED = "---\ntags:\n- c3po_adaptive\n---\n# My model, which I describe\n"


def test_a_card_stays_that_a_person_tagged_or_altered(references, pathway, tmp_path):
    for saved in (references, pathway):
        folder = tmp_path / type(saved).__name__
        folder.mkdir()
        (folder / "README.md").write_text(TAGGED)
        with untouched(folder), pytest.raises(DataError, match=r"without README\.md of others, .*move them away"):
            saved.save_pretrained(folder)
        (folder / "README.md").unlink()
        saved.save_pretrained(folder)
        card = (folder / "README.md").read_text()
        for altered in (TAGGED, card.replace("## Use", "## What I found\n\n## Use"), f"{card}More.\n", card[:-2]):
            (folder / "README.md").write_text(altered)
            with untouched(folder), pytest.raises(DataError, match="got one that a person wrote or altered"):
                saved.save_pretrained(folder)
        (folder / "README.md").write_text(card)
        saved.save_pretrained(folder, license="mit")
        assert "license: mit" in (folder / "README.md").read_text()


def test_a_pathway_does_not_take_the_card_of_a_set(references, pathway, tmp_path):
    for one, other in ((references, pathway), (pathway, references)):
        folder = one.save_pretrained(tmp_path / type(one).__name__)
        with untouched(folder), pytest.raises(DataError, match=r"without README\.md"):
            other.save_pretrained(folder)


def test_half_a_character_is_refused_in_a_sentence(references, tmp_path):
    first, *rest = references.questions
    half = replace(references, questions=(replace(first, question="half \ud800 of one"), *rest))
    for save in (half.save, half.save_pretrained):
        with (
            untouched(tmp_path),
            pytest.raises(DataError, match=r"half of a character .*'half \\ud800 of one'; remove"),
        ):
            save(tmp_path / "set")
    assert not list(tmp_path.iterdir())


def test_what_is_kept_beside_a_set_stays_and_is_not_taken_for_anothers(references, model, tmp_path):
    folder = references.save(tmp_path / "set")
    build_store(references, model, folder / "warm")
    for kept in ("index", "learned", "artifacts"):
        (folder / kept).mkdir()
        (folder / kept / "mine.bin").write_text("computed for hours")
    with untouched(folder / "warm"), untouched(folder / "index"), untouched(folder / "artifacts"):
        ReferenceSet.load(folder).save(folder)  # over itself
    assert open_store(ReferenceSet.load(folder), model, folder / "warm", "cloze") is not None
    other = replace(references.subset(torch.arange(6)), card=references.card | {"source": "another"})
    warm = {p: p.read_bytes() for p in (folder / "warm").iterdir()}
    other.save(folder)
    assert {p: p.read_bytes() for p in (folder / "warm").iterdir()} == warm
    with pytest.warns(UserWarning, match="is of another model, format, set"):
        assert open_store(ReferenceSet.load(folder), model, folder / "warm", "cloze") is None


def test_a_pathway_is_written_over_a_pathway_alone(pathway, tmp_path):
    path = pathway.save(tmp_path / "omega.safetensors")
    pathway.save(path)
    for content in ("mine", ""):
        (tmp_path / "mine.safetensors").write_text(content)
        with untouched(tmp_path):
            is_refused(lambda: pathway.save(tmp_path / "mine.safetensors"))
    (tmp_path / "link").symlink_to("omega.safetensors")
    for name in ("link", "omega.safetensors", "a\0b", "x" * 300, "\ud800"):
        with untouched(tmp_path):
            is_refused(lambda name=name: pathway.save_pretrained(f"{tmp_path}/{name}"))
    for name in ("link", "a\0b", "x" * 300, ".", "..", "/"):
        with untouched(tmp_path):
            is_refused(lambda name=name: pathway.save(f"{tmp_path}/{name}"))


def test_shards_are_deleted_when_the_set_is_kept_and_not_before(model, tmp_path, monkeypatch):
    monkeypatch.setenv("C3PO_CACHE", str(tmp_path / "cache"))
    from c3po_adaptive.references import build

    def full(*args):
        raise DataError("no space left")

    with monkeypatch.context() as patch:
        patch.setattr(ReferenceSet, "save", full)
        with pytest.raises(DataError, match="no space left"):
            build.reference_set_of(questions(6), model, HashEmbedder(), "cloze")
    assert len(list(tmp_path.rglob("*-0000000.*.safetensors"))) == 1, "what was computed is there for the next try"
    monkeypatch.setattr(model, "prefill", None)
    built = build.reference_set_of(questions(6), model, HashEmbedder(), "cloze")
    assert len(built) == 6
    assert not list(tmp_path.rglob("*-0000000.*.safetensors"))


@pytest.mark.parametrize("way", ["save", "save_pretrained"])
def test_killed_at_any_step_a_set_over_another_is_one_of_them_or_refused(references, tmp_path, monkeypatch, way):
    other, found = replace(references.subset(torch.arange(6)), card=references.card | {"source": "another"}), []
    for step in range(20):
        folder = getattr(references, way)(tmp_path / str(step))
        (folder / "notes.txt").write_text("mine")
        with monkeypatch.context() as patch:
            killed_at(patch, step)
            try:
                getattr(other, way)(folder)
                ended = True
            except Killed:
                ended = False
        read = passed(lambda folder=folder: ReferenceSet.load(folder))
        found.append("refused" if isinstance(read, DataError) else len(read))
        if found[-1] == "refused":
            assert "is missing, cut short or altered; build the set again" in str(read)
        getattr(references, way)(folder)  # what was left is no obstacle
        assert len(ReferenceSet.load(folder)) == 24
        assert (folder / "notes.txt").read_text() == "mine"
        if ended:
            break
    assert ended
    assert [*dict.fromkeys(found)] == [24, "refused", 6]


@pytest.fixture
def warm(references, model, tmp_path):
    """A set with the states of one model, and another model."""
    folder = references.save(tmp_path / "set")
    build_store(references, model, folder / "warm")
    return folder / "warm"


def shards(folder):
    return {p.name for p in folder.glob("*.safetensors")}


def test_states_of_another_model_stay_until_these_are_made(references, model, warm, monkeypatch, tmp_path):
    """And in a folder that a link leads to, which may be another set's."""
    monkeypatch.setattr("c3po_adaptive.references.prefill_store.SHARD", 2)
    before, runs = shards(warm), []

    def stopping(shards, label, total):
        runs.append(total)
        for i, shard in shards:
            if i == 4 and len(runs) == 1:
                raise KeyboardInterrupt
            yield i, shard

    with pytest.raises(KeyboardInterrupt):
        build_store(references, model, warm, dtype=torch.bfloat16, progress=stopping)
    assert before < shards(warm)
    other = references.save(tmp_path / "other")
    (other / "warm").symlink_to(warm)
    build_store(references, model, other / "warm", dtype=torch.bfloat16, progress=stopping)
    assert runs[0] - runs[1] == 2
    assert before < shards(warm)
    (warm / "notes.txt").write_text("mine")
    (warm / f"{'0' * 20}-float32-0000000.{'0' * 16}.safetensors").mkdir()
    build_store(references, model, warm, dtype=torch.bfloat16)
    assert not before & shards(warm)
    assert len([*warm.iterdir()]) == runs[0] + 2


def test_shards_that_cannot_be_deleted_are_one_sentence(references, model, warm, monkeypatch):
    def refuse(self, **_):
        if self.suffix == ".safetensors":
            raise PermissionError(13, "Permission denied")

    with monkeypatch.context() as patch:
        patch.setattr("pathlib.Path.unlink", refuse)
        with pytest.raises(DataError, match=r"Expected to delete .*of the store before, got: .*Permission denied"):
            build_store(references, model, warm, dtype=torch.bfloat16)
    build_store(references, model, warm, dtype=torch.bfloat16)
    assert {"-bfloat16-" in name for name in shards(warm)} == {True}
