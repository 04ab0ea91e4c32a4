"""The card that is written beside a reference set, for people and for the Hub."""

from dataclasses import replace

import pytest
import torch
import yaml
from routing.naive import shared_model
from routing.toys import HashEmbedder, reference_set

from c3po_adaptive import ReferenceSet
from c3po_adaptive.errors import DataError, SettingError
from c3po_adaptive.tasks.formats import Letter, format_key


@pytest.fixture
def references():
    return reference_set("olmoe")


def written(references, tmp_path, **options):
    """Metadata, and text."""
    text = (references.save_pretrained(tmp_path / "set", **options) / "README.md").read_text()
    _, head, rest = text.split("---\n", 2)
    return yaml.safe_load(head), rest


def test_says_what_it_is(references, tmp_path):
    known, text = written(references, tmp_path)
    assert known["size_categories"] == "n<1K"
    assert "license" not in known
    assert "base_model" not in known, "a tiny model has no name on the Hub"
    right = int(references.correct.sum())
    assert f"| questions | 24 |\n| answered right | {right} ({right / 24:.1%}) |" in text
    assert f"| toy | 24 | {right} | {right / 24:.1%} |" in text
    for value in (references.card["model"], references.card["format"], "`hash`, revision `1`", "[24, 3, 8]", "0, 1, 2"):
        assert value in text
    assert all(f"{number}" in text for number in references.card["versions"].values())
    assert "load_moe_model('olmoe', dtype='float32')" in text
    assert "ReferenceSet.from_pretrained('set')" in text
    assert "format='cloze'" in text


def test_tasks_one_by_one(references, tmp_path):
    tasks = tuple(replace(q, task=("a", "b|c\n# d", "")[i % 3]) for i, q in enumerate(references.questions))
    _, text = written(replace(references, questions=tasks), tmp_path)
    for start, name in enumerate(("a", "b&#124;c&#10;&#35; d", "–")):
        right = int(references.correct[start::3].sum())
        assert f"| {name} | 8 | {right} | {right / 8:.1%} |" in text


@pytest.mark.parametrize(("name", "revision", "base"), [
    ("OLMoE", None, "allenai/OLMoE-1B-7B-0924"), ("smollm2-moe", None, "HuggingFaceTB/SmolLM2-135M-Instruct"),
    ("someone/moe", "0" * 40, "someone/moe"), ("someone/moe", None, None),
])  # fmt: skip
def test_base_model(references, tmp_path, name, revision, base):
    known, text = written(
        replace(references, card=references.card | {"model_name": name, "revision": revision}), tmp_path
    )
    assert known.get("base_model") == base
    assert f"load_moe_model('{name}'" in text


def test_license_and_format_of_ones_own(references, tmp_path):
    card = references.card | {"format": format_key(Letter(chat=True))}
    known, text = written(replace(references, card=card), tmp_path, license="cc-by-4.0")
    assert known["license"] == "cc-by-4.0"
    assert "format={'name': 'letter', 'chat': True}" in text


def test_a_name_does_not_leave_its_place(references, tmp_path):
    """What a foreign card says stays on its line, and out of the metadata."""
    name = "x\n---\nlicense: mit\n---\n```\n<script>"
    known, text = written(replace(references, card=references.card | {"model_name": name, "revision": name}), tmp_path)
    assert "license" not in known
    assert "\nlicense: mit" not in text
    assert "\n<script>" not in text
    assert text.count("\n```") == 2


def test_round_trip(references, tmp_path):
    folder = references.save_pretrained(tmp_path / "set")
    assert {p.name for p in folder.iterdir()} == {"README.md", "card.json", "questions.parquet", "tensors.safetensors"}
    read = ReferenceSet.from_pretrained(folder)
    assert read.folder == folder
    assert read.questions == references.questions
    assert torch.equal(read.pathways, references.pathways)
    assert read.card == ReferenceSet.load(folder).card
    read.check(shared_model("olmoe"), "cloze", HashEmbedder())


def test_what_cannot_be(references, tmp_path):
    with pytest.raises(SettingError, match="which is a folder, got 'v1'"):
        ReferenceSet.from_pretrained(references.save_pretrained(tmp_path / "set"), revision="v1")
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError, match="choose a writable folder"):
        references.save_pretrained(tmp_path / "file" / "set")
    with pytest.raises(DataError, match=r"a folder with card\.json"):
        ReferenceSet.from_pretrained(tmp_path)
