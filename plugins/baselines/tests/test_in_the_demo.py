"""The demo's arm that is answered here: the core's own tests run the others."""

import pytest
from cli.test_cli import FEW, call, place, rows  # noqa: F401 (place is a fixture)

pytestmark = pytest.mark.usefixtures("undrawn")


def test_the_base_with_its_scores_corrected(place, tmp_path):  # noqa: F811
    call("demo", *FEW, "--limit", 3, "--arm", "calibrated", "--wide", "--out", tmp_path / "run")
    assert {arm for arm, _ in rows(tmp_path / "run")} == {"base", "calibrated"}
