"""Warm references: the same answers as cold ones, from disk, in any memory; broken or foreign stores are found out."""

import pytest
import torch
from models.families.checks import model_of
from remixing.test_remixer import remixer
from routing.toys import HashEmbedder, questions

from c3po_adaptive.errors import DataError, SettingError
from c3po_adaptive.optimizers.ngd import NGD
from c3po_adaptive.references.build import build_reference_set
from c3po_adaptive.references.prefill_store import build_store, open_store
from c3po_adaptive.references.reference_set import ReferenceSet
from c3po_adaptive.routing.prefill import prefill

FAMILIES = ("olmoe", "deepseek", "gpt_oss", "jamba", "qwen3_next")
TEST = questions(5, "t")


def built(family, folder, format="cloze"):
    """A model, and a set of it read from a folder."""
    model = model_of(family)
    build_reference_set(model, questions(40), HashEmbedder(), format=format).save(folder)
    return model, ReferenceSet.load(folder)


def answers(model, references, **settings):
    run = remixer(model=model, references=references, optimizer=NGD(steps=3, lr=0.05), **settings)
    return run, torch.cat([torch.tensor(a.scores) for a in run.answer(TEST)])


@pytest.mark.parametrize("format", ["cloze", "letter"])
@pytest.mark.parametrize("family", FAMILIES)
def test_answers_are_those_of_cold_references(family, format, tmp_path):
    model, references = built(family, tmp_path / "set", format)
    _, cold = answers(model, references, format=format)
    build_store(references, model, tmp_path / "set" / "warm", format=format)
    model._states.clear()
    one = store_bytes(references, model, tmp_path / "set" / "warm", format)
    for budget in (2**30, 2 * one):
        run, scores = answers(model, references, format=format, store_bytes=budget)
        torch.testing.assert_close(scores, cold, atol=1e-4, rtol=1e-4)
        assert 0 < run._store.nbytes <= budget


def store_bytes(references, model, folder, format):
    """What the largest state takes."""
    store = open_store(references, model, folder, format)
    return max(s.nbytes for s in store.states(store.prompts))


class TestStore:
    @pytest.fixture
    def place(self, tmp_path):
        model, references = built("olmoe", tmp_path / "set")
        return model, references, tmp_path / "set" / "warm"

    def test_states_are_read_and_not_run(self, place, monkeypatch):
        model, references, folder = place
        store = build_store(references, model, folder)
        expected = model.prefill(store.prompts[:3])
        model._states.clear()
        run = []

        def spy(model, sites, prompts, *args, **options):
            run.extend(prompts)
            return prefill(model, sites, prompts, *args, **options)

        monkeypatch.setattr("c3po_adaptive.models.routed.prefill", spy)
        found = open_store(references, model, folder, "cloze").states(store.prompts[:3])
        assert {len(prompt.ids) for prompt in run} == {2}, "two tokens that show the cache's layers, and no reference"
        for state, other in zip(found, expected, strict=True):
            assert state.prompt == other.prompt
            for name in ("entry", "own", "router", "token_scores"):
                torch.testing.assert_close(getattr(state, name), getattr(other, name), atol=1e-5, rtol=0)
            assert state.work == other.work

    def test_an_interrupted_build_goes_on(self, place, monkeypatch):
        model, references, folder = place
        monkeypatch.setattr("c3po_adaptive.references.prefill_store.SHARD", 2)
        runs = []

        def stopping(shards, label, total):
            for i, shard in shards:
                if i == 4 and not runs:
                    raise KeyboardInterrupt
                yield i, shard

        with pytest.raises(KeyboardInterrupt):
            build_store(references, model, folder, progress=stopping)
        before = {f.name: f.stat().st_mtime_ns for f in folder.glob("*.safetensors")}
        assert len(before) == 2
        with pytest.warns(UserWarning, match="not complete; build it again: c3po refset warm"):
            assert open_store(references, model, folder, "cloze") is None
        runs.append(1)
        store = build_store(references, model, folder, progress=stopping)
        after = {f.name: f.stat().st_mtime_ns for f in folder.glob("*.safetensors")}
        assert before.items() <= after.items()
        assert [s.prompt for s in store.states(store.prompts)] == list(store.prompts)

    def test_a_foreign_store_is_not_used_and_made_anew(self, place):
        model, references, folder = place
        build_store(references, model, folder)
        other = model_of("olmoe", seed=1)
        with pytest.warns(UserWarning, match="of another model"):
            assert open_store(references, other, folder, "cloze") is None
        with pytest.warns(UserWarning, match="format"):
            assert open_store(references, model, folder, "letter") is None
        build_store(references, model, folder, dtype=torch.bfloat16)
        (shard,) = folder.iterdir()
        assert "-bfloat16-" in shard.name
        assert open_store(references, model, folder, "cloze") is not None

    def test_a_shard_that_went_meanwhile_is_named(self, place):
        model, references, folder = place
        store = build_store(references, model, folder)
        (shard,) = folder.glob("*.safetensors")
        shard.unlink()
        with pytest.raises(DataError, match=rf"{shard.name} is missing.*; build it again: c3po refset"):
            store.states(store.prompts[:1])

    def test_a_budget_below_one_state(self, place):
        model, references, folder = place
        build_store(references, model, folder)
        small = open_store(references, model, folder, "cloze", budget=100)
        with pytest.raises(SettingError, match=r"at least \d+ bytes, one reference's state, got 100"):
            small.states(small.prompts[:1])

    def test_a_full_disk_loses_nothing(self, place, monkeypatch):
        model, references, folder = place
        monkeypatch.setattr("c3po_adaptive.references.prefill_store.SHARD", 4)

        def full(*args, **kwargs):
            raise OSError(28, "No space left on device")

        build_store(references, model, folder)
        before = sorted(f.name for f in folder.iterdir())
        shard = next(name for name in before if name.endswith(".safetensors"))
        (folder / shard).unlink()
        with monkeypatch.context() as patch:
            patch.setattr("pathlib.Path.write_bytes", full)
            with pytest.raises(DataError, match="No space left on device; free the disk"):
                build_store(references, model, folder)
        assert {f.name for f in folder.iterdir()} == {*before} - {shard}
        store = build_store(references, model, folder)
        assert len(store.states(store.prompts)) == len(references.successes)
