"""Texts from files and standard input."""

import io

import pytest
from c3po_benchmarks import texts_of

from c3po_adaptive.errors import DataError


def test_a_line_a_text_and_a_row_a_text(tmp_path, monkeypatch):
    lines, rows = tmp_path / "texts.txt", tmp_path / "texts.jsonl"
    lines.write_text("a boat\n\nfloats\u2028on\n")
    rows.write_text('{"text": "a boat", "id": 3, "task": "x"}\n{"text": "floats\\non"}\n')
    assert texts_of(lines) == ["a boat", "floats\u2028on"] and texts_of(str(rows)) == ["a boat", "floats\non"]
    assert texts_of(rows, limit=1) == ["a boat"]
    monkeypatch.setattr("sys.stdin", io.StringIO("one\n\ntwo\n"))
    assert texts_of("-") == ["one", "two"]


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("a.csv", "text\na boat\n", r"got \.csv format; write a line a text"),
        ("a.jsonl", '{"question": "a boat"}\n', r"a\.jsonl, line 1: .* got the keys question"),
        ("a.txt", " \n", "got none"),
        ("a.txt", None, r"Expected a file of texts at .*a\.txt, but there is none; did you mean 'at\.txt'\?"),
        ("no/where.jsonl", None, r"where\.jsonl, but there is none; check the path"),
    ],
)
def test_other_files_are_refused_with_how_to_write_texts(tmp_path, name, content, said):
    (tmp_path / "at.txt").write_text("a boat\n")
    if content is not None:
        (tmp_path / name).write_text(content)
    with pytest.raises(DataError, match=said):
        texts_of(tmp_path / name)
