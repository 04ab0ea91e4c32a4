"""What an error says about a name that is not there: what helps first, then what there is."""

import os

import pytest

from c3po_adaptive.errors import LISTED, disk_says, suggestion

NAMES = ["gaussian", "linear", "matern"]
MANY = [f"name-{i}" for i in range(LISTED + 5)]


def test_the_nearest_stands_before_all():
    assert suggestion("gausian", NAMES) == "did you mean 'gaussian'? There are gaussian, linear, matern."
    assert suggestion("linaer", ["linear"]) == "did you mean 'linear'? There is linear."


def test_without_a_near_one_all_stand_before_what_to_do():
    assert suggestion("rbf", NAMES) == "there are gaussian, linear, matern; choose one of these."
    assert suggestion("rbf", [], "leave it out.") == "there are none; leave it out."


def test_many_are_not_listed_where_it_is_known_what_lists_them():
    said = suggestion("nam-7", MANY, all_in="by c3po plugins list")
    assert said.startswith("did you mean 'name-7'") and said.endswith("? There are 35, listed by c3po plugins list.")
    assert suggestion("x", MANY, "name one.", "in docs") == "there are 35, listed in docs; name one."


def test_of_many_others_the_first_are_listed():
    assert suggestion("x", MANY).endswith("name-28, name-29 and 5 more; choose one of these.")


def test_a_caller_may_want_near_ones_alone():
    assert suggestion("rbf", NAMES, "") == ""


def test_an_error_of_the_disk_is_said_in_words(tmp_path):
    for use, said in (
        (lambda: (tmp_path / "none").read_text(), f"{tmp_path / 'none'} does not exist"),
        (lambda: tmp_path.read_text(), f"Is a directory ({tmp_path})"),
    ):
        with pytest.raises(OSError, match=r"\[Errno") as raised:
            use()
        assert disk_says(raised.value) == said
    with pytest.raises(OSError, match=r"\[Errno") as raised:
        os.replace(tmp_path / "none", tmp_path / "new")
    assert disk_says(raised.value) == f"No such file or directory ({tmp_path / 'none'} → {tmp_path / 'new'})"
    assert disk_says(OSError("a link stands there")) == "a link stands there"
    assert disk_says(ValueError("embedded null byte")) == "embedded null byte"
