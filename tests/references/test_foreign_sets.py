"""Reference sets that others made: hashed rightly, and still refused in words where they cannot be references."""

import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from routing.naive import shared_model
from routing.toys import HashEmbedder, questions
from safetensors.torch import load_file, save_file

from c3po_adaptive.errors import DataError
from c3po_adaptive.references.build import build_reference_set
from c3po_adaptive.references.reference_set import CARD, QUESTIONS, TENSORS, ReferenceSet
from c3po_adaptive.storage.identity import digest_of_file


@pytest.fixture
def folder(tmp_path):
    build_reference_set(shared_model("olmoe"), questions(6), HashEmbedder()).save(tmp_path / "set")
    return tmp_path / "set"


def hashed(folder):
    """The card says the files' hashes again."""
    card = json.loads((folder / CARD).read_text())
    card["files"] = {name: digest_of_file(folder / name) for name in card["files"]}
    (folder / CARD).write_text(json.dumps(card))


def with_rows(folder, change):
    rows = pq.read_table(folder / QUESTIONS).to_pylist()
    pq.write_table(pa.Table.from_pylist([change(i, row) for i, row in enumerate(rows)]), folder / QUESTIONS)
    hashed(folder)


def with_tensors(folder, **change):
    save_file(
        {name: change.get(name, lambda t: t)(t) for name, t in load_file(folder / TENSORS).items()}, folder / TENSORS
    )
    hashed(folder)


@pytest.mark.parametrize(("change", "said"), [
    (lambda i, row: row | {"id": "same"}, "each id once"),
    (lambda i, row: row | {"answer": 99}, "answer 99 of"),
    (lambda i, row: row | {"answer": -1}, "answer -1 of"),
    (lambda i, row: row | {"scores": [float("nan")] * len(row["scores"])}, "not finite"),
    (lambda i, row: row | {"choices": ["one"], "scores": [0.0], "answer": 0}, "two at least"),
], ids=["id", "above", "below", "scores", "choices"])  # fmt: skip
def test_rows(folder, change, said):
    with_rows(folder, change)
    with pytest.raises(DataError, match=said):
        ReferenceSet.load(folder)


@pytest.mark.parametrize(("change", "said"), [
    ({"pathways": lambda t: -t}, "pathways >= 0"),
    ({"embeddings": lambda t: t * 0}, "embeddings with a direction"),
], ids=["negative", "zero"])  # fmt: skip
def test_tensors(folder, change, said):
    with_tensors(folder, **change)
    with pytest.raises(DataError, match=said):
        ReferenceSet.load(folder)


def test_half_precision_is_read(folder):
    with_tensors(folder, embeddings=lambda t: t.bfloat16(), pathways=lambda t: t.half())
    read = ReferenceSet.load(folder)
    assert read.pathways.dtype == torch.float32


def test_a_table_that_cannot_be_read(folder):
    table = pq.read_table(folder / QUESTIONS)
    wrong = pa.array([b"\xff\xfe"] * len(table)).cast(pa.binary()).view(pa.string())
    pq.write_table(table.set_column(table.column_names.index("question"), "question", wrong), folder / QUESTIONS)
    hashed(folder)
    with pytest.raises(DataError, match="the questions of a reference set at"):
        ReferenceSet.load(folder)
