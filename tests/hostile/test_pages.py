"""A page takes the place of one of its own kind that nobody altered; any other stays."""

from types import SimpleNamespace

import pytest
from hostile.doors import command, untouched

from c3po_adaptive.errors import DataError
from c3po_adaptive.report.explanation import Explanation
from c3po_adaptive.storage.text_checksum import write_page

SHOWN = SimpleNamespace(html=lambda command: "<!doctype html>\n<p>What was found.</p>")


@pytest.fixture
def page(tmp_path):
    return Explanation.save(SHOWN, tmp_path / "page.html")


def test_its_own_is_replaced(page):
    page.write_bytes(page.read_bytes().replace(b"\n", b"\r\n"))  # as Windows, or git, may have it
    Explanation.save(SimpleNamespace(html=lambda command: "<p>anew</p>"), page)
    assert page.read_text().startswith("<p>anew</p>\n<!-- c3po_adaptive wrote this explanation: ")


@pytest.mark.parametrize("change", [
    lambda text: text.replace("What was found", "What I make of it"),
    lambda text: f"{text}<p>A note</p>\n",
    lambda text: text.replace("this explanation", "this report"),
    lambda text: SHOWN.html(None),
    lambda text: "",
], ids=["altered", "added to", "of another kind", "a run's report, which says no kind", "empty"])  # fmt: skip
def test_another_stays(page, change):
    page.write_text(change(page.read_text()))
    with untouched(page.parent):
        with pytest.raises(DataError, match=r"a page \(of kind explanation\), got .*page.html, where something else"):
            Explanation.save(SHOWN, page)
        assert command("explain", "Is it so?", "--html", page) == 1


def test_a_page_of_another_kind_stays(tmp_path):
    write_page(tmp_path / "page.html", "<p>other</p>", "report")
    with untouched(tmp_path), pytest.raises(DataError, match="nothing was touched"):
        Explanation.save(SHOWN, tmp_path / "page.html")
