"""The page of committed results in a real browser, as those of the core."""

from pathlib import Path

import pytest
from c3po_faithfulness.page import page
from c3po_faithfulness.summary import FaithfulnessSummary
from report import test_browser as core
from report.test_browser import NARROW, WIDE, browser, pytestmark  # noqa: F401 (a fixture, and what is needed)

RESULTS = Path(__file__).parents[3] / "studies" / "faithfulness" / "results"


@pytest.fixture(scope="module")
def pages(tmp_path_factory):
    path = tmp_path_factory.mktemp("faithfulness") / "report.html"
    path.write_text(page(FaithfulnessSummary.model_validate_json((RESULTS / "misrouted.json").read_text())))
    return {"own": path}


@pytest.mark.parametrize(("viewport", "scheme"), [(WIDE, "light"), (NARROW, "light"), (WIDE, "dark"), (NARROW, "dark")])
def test_it_stands_alone_fits_and_is_accessible(browser, pages, viewport, scheme):  # noqa: F811
    core.test_pages_stand_alone_fit_and_are_accessible(browser, pages, "own", viewport, scheme)


def test_it_is_dark_where_that_is_wanted_and_light_on_paper(browser, pages):  # noqa: F811
    core.test_pages_are_dark_where_that_is_wanted_and_light_on_paper(browser, pages, "own")


def test_each_table_is_saved_with_a_field_for_every_name(browser, pages):  # noqa: F811
    core.TestTables().test_each_is_saved_with_a_field_for_every_name(browser, pages, "own")
