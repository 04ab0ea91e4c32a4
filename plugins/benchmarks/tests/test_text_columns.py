"""Columns of data sets as texts: what a local folder holds, and what the Hub is asked for."""

import datasets
import pytest
from c3po_benchmarks import holds_texts, texts_of
from typer.testing import CliRunner

from c3po_adaptive.cli import app
from c3po_adaptive.errors import DataError
from c3po_adaptive.testing import write_tiny_checkpoint

ROWS = [{"id": i, "text": text, "title": f"a boat {i}"} for i, text in enumerate(("the boat floats", " ", "it sinks"))]


@pytest.fixture
def folder(tmp_path):
    for split, rows in (("train", ROWS), ("test", ROWS[:1])):
        datasets.Dataset.from_list(rows).to_parquet(tmp_path / f"{split}.parquet")
    return tmp_path


@pytest.mark.filterwarnings("ignore")  # of the library's own
def test_a_column_of_a_folder(folder):
    assert holds_texts(f"texts:{folder}:train")
    assert texts_of(f"texts:{folder}:train") == ["the boat floats", "it sinks"], "empty ones are left out"
    assert texts_of(f"texts:{folder}:title:train", limit=2) == ["a boat 0", "a boat 1"]
    assert texts_of(f"texts:{folder}:test") == ["the boat floats"]


def test_a_table_saved_to_disk_has_one_split(tmp_path):
    datasets.Dataset.from_list(ROWS).save_to_disk(tmp_path / "saved")
    assert texts_of(f"texts:{tmp_path / 'saved'}") == ["the boat floats", "it sinks"]


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    ("after", "said"),
    [
        (":more", "a split among train, test, got more"),
        ("", "a split among train, test, got None"),
        (":titel:train", "in the column 'titel', got the columns id, text, title; name a column of texts"),
        (":id:train", "in the column 'id', got int"),
    ],
)
def test_other_splits_and_columns_are_refused(folder, after, said):
    with pytest.raises(DataError, match=said):
        texts_of(f"texts:{folder}{after}")


def test_of_the_hub_so_many_rows_are_fetched_as_are_asked_for(folder, monkeypatch):
    asked, fetched = [], []

    def load_dataset(*names, **how):
        asked.append((names, how))
        return (fetched.append(row) or row for row in ROWS * 100)

    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    assert texts_of("texts:owner/name/en:train", limit=1) == ["the boat floats"]
    assert asked == [(("owner/name", "en"), {"split": "train", "streaming": True})] and len(fetched) == 1
    assert texts_of("texts:owner/name:title:train", limit=1) == ["a boat 0"]
    assert asked[1][0] == ("owner/name", None)


def test_a_hub_that_fails_on_the_way_says_so(monkeypatch):
    def broken():
        yield ROWS[0]
        raise ConnectionError("no network")

    monkeypatch.setattr(datasets, "load_dataset", lambda *_, **__: broken())
    with pytest.raises(DataError, match=r"'train' of 'owner/name' .* failed: no network"):
        texts_of("texts:owner/name:train")


@pytest.mark.parametrize("name", ["texts:owner/name", "texts:wikitext:train", "texts:a/b/c/d:train", "texts:"])
def test_names_of_no_data_set_are_told_how_to_write_one(name):
    with pytest.raises(DataError, match=r"texts:OWNER/NAME:COLUMN:SPLIT, or a folder"):
        texts_of(name)


@pytest.mark.filterwarnings("ignore")
def test_commands_take_them(folder, tmp_path):
    model = str(write_tiny_checkpoint(tmp_path / "model", "qwen3_moe"))
    for command in (["experts"], ["trace", "stats"]):
        done = CliRunner().invoke(app, [*command, f"texts:{folder}:title:train", "--model", model])
        assert done.exit_code == 0, done.output
        assert "3 texts" in done.stdout
