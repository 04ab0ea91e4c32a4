"""Rows of families: each names a family that there is, and a misspelt key is refused."""

import pytest
from pydantic import ValidationError
from transformers import CONFIG_MAPPING

from c3po_adaptive.models import architecture  # noqa: F401 (registers families that transformers does not know)
from c3po_adaptive.models.family_table import table as what_works
from c3po_adaptive.routing.families import Family, family, table
from c3po_adaptive.routing.styles import STYLES


def test_rows_are_of_families_that_there_are_and_in_order():
    rows = table().families
    unknown = [name for name in rows if name not in CONFIG_MAPPING and name not in what_works()["families"]]
    assert unknown == [] and list(rows) == sorted(rows)
    assert {row.style for row in rows.values()} == {*STYLES}
    assert family("olmoe") == Family()


@pytest.mark.parametrize("row", [{"resume": False}, {"style": "sorted"}, {"pictures": {"tokens": ["<image>"]}}])
def test_a_row_that_says_something_else_is_refused(row):
    with pytest.raises(ValidationError):
        Family.model_validate(row)
