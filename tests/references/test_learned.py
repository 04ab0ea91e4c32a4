"""What is learned from references is kept beside them, and of one model only."""

import importlib
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
import torch
from own_plugin import Practised
from remixing.test_remixer import remixer
from routing.toys import reference_set

import c3po_adaptive
from c3po_adaptive.references.learned import learned_once
from c3po_adaptive.references.reference_set import ReferenceSet
from c3po_adaptive.storage.identity import digest_of_file
from c3po_adaptive.storage.kept import NoSource, code_of


def found():
    return {"weights": torch.tensor([1.0, 2.0])}


def never():
    raise AssertionError("it was kept")


@pytest.fixture
def references(tmp_path):
    return ReferenceSet.load(reference_set("olmoe").save(tmp_path / "set"))


def files(references):
    return sorted((references.folder / "learned").iterdir())


def test_it_is_learned_once_for_each_identity(references):
    learned_once(references, ["one"], found)
    again = ReferenceSet.load(references.folder)
    assert torch.equal(learned_once(again, ["one"], never)["weights"], found()["weights"])
    with pytest.raises(AssertionError, match="it was kept"):
        learned_once(again, ["another"], never)
    assert len(files(references)) == 1


def test_without_a_folder_it_is_kept_in_memory():
    references = replace(reference_set("olmoe"), folder=None)
    learned_once(references, ["one"], found)
    assert learned_once(references, ["one"], never).keys() == found().keys()


def test_what_others_taught_is_another(references):
    """Other labels, or other embeddings of the same questions: whoever asks in the same words learns anew."""
    learned_once(references, ["one"], found)
    others = [references.shuffled(0), replace(references, embeddings=references.embeddings.flip(0))]
    for other in (*others, references.subset(torch.arange(4))):
        with pytest.raises(AssertionError, match="it was kept"):
            learned_once(replace(other, folder=references.folder), ["one"], never)


def test_a_disk_that_refuses_is_told_and_nothing_is_lost(references):
    (references.folder / "learned").write_text("a file in the folder's place")
    with pytest.warns(UserWarning, match="it is computed again next time"):
        assert learned_once(references, ["one"], found).keys() == found().keys()
    assert learned_once(references, ["one"], never).keys() == found().keys()


def test_decorated_functions_are_told_by_their_own_file_and_partials_by_none():
    def plain(x):
        return x

    assert code_of(torch.no_grad()(plain)) == code_of(plain) == code_of(partial(plain))
    for untold in (partial(plain, 2), partial(plain, x=2), "text".join, object()):
        with pytest.raises(NoSource):
            code_of(untold)


def test_a_package_beside_a_file_is_its_code(tmp_path, monkeypatch):
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "__init__.py").write_text("HELP = 1\n")
    (tmp_path / "__init__.py").write_text("")
    (tmp_path / "main.py").write_text("from .sub import HELP\ndef f():\n    return HELP\n")
    monkeypatch.syspath_prepend(tmp_path.parent)
    f = importlib.import_module(f"{tmp_path.name}.main").f
    assert digest_of_file(tmp_path / "sub" / "__init__.py")[:16] in code_of(f)


def test_what_plugins_look_up_in_the_package_decides_what_they_learn():
    """A plugin imports it by the package's name, which tells nobody the file."""
    identity = repr(remixer().training._identity(Practised(training=32)))
    for part in ("optimizers/_reference_artifacts", "optimizers/_question_features"):
        file = Path(c3po_adaptive.__file__).parent / f"{part}.py"
        assert digest_of_file(file)[:16] in identity
