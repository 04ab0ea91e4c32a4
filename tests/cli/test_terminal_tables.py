"""Tables on a terminal, where no word and no number of them may be cut."""

import re
import sys

from cli.test_cli import call

from c3po_adaptive.cli.terminal import print_table
from c3po_adaptive.study.comparison.comparison_study import COLUMNS

NUMBERS = ["75.0", "+0.0 [-60.2, +60.2]", "10/12", "0.636 +0.002 [-0.003, +0.007]", "25.4 +0.1 [-0.2, +0.3]", "5.0"]
ROW = ["demo", "one-step, random neighbours", "1234", *NUMBERS, "123.4", "56789", "helps, but so does shuffled labels"]


def lines_of(said):
    return re.sub(r"\x1b\[[0-9;]*m", "", said).splitlines()


def test_a_wide_table_is_laid_below_itself_and_nothing_in_it_is_cut(monkeypatch, capsys):
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    other = "数据" * 5
    print_table(COLUMNS, [ROW, [other, *ROW[1:]]], keys=2)
    lines = lines_of(capsys.readouterr().out)
    cells = [[cell.strip() for cell in re.split("[│┃]", line)] for line in lines]
    words = [word for line in cells for cell in line for word in cell.split()]
    for text in (*COLUMNS, *ROW):
        assert not {*text.split()} - {*words}, text
    whole = [cell for line in cells for cell in line]
    assert {"+0.0 [-60.2, +60.2]", other} <= {*whole}, "what is short stays in one line"
    assert max(len(line) for line in lines) <= 80
    assert len([line for line in cells if line[1:3] == ["data set", "arm"]]) > 1, "what tells rows apart stands in each"


def test_plugins_and_what_they_do_side_by_side_in_80_columns(monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setattr("typer.testing._NamedTextIOWrapper.isatty", lambda self: True, raising=False)
    lines = lines_of(call("plugins", "list"))
    (head,) = (line for line in lines if "optimizer" in line and "what it does" in line)
    assert len(head.strip("┃").split("┃")[-1]) > 40, "room for the sentence"
