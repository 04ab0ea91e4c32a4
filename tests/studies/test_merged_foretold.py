"""What audits foretold is held against what was won, model by model."""

import json
from pathlib import Path

import pytest
from c3po_audit.records import AuditInterval, ExpectedGain
from merged.foretold import Told, app, correlation
from records.made import answered
from typer.testing import CliRunner

from c3po_adaptive.records.parquet import write_parquet

RESULTS = Path(__file__).parents[2] / "studies" / "merged" / "results"
KINDS = "abcdef"
MODELS = {"sure": (20, 3), "sound": (0, 0), "wrong": (9, -2), "small": (5, 1)}
"""Points foretold, and of six questions a kind how many more nearest has right than the base, of two."""


@pytest.fixture
def place(tmp_path):
    for model, (points, more) in MODELS.items():
        interval = AuditInterval(value=points, low=points - 4.0, high=points + 4.0)
        shape = {"kinds": 6, "labels": 299, "rate": 50.0, "nats": points / 10, "layers": {3: 1.0}}
        told = ExpectedGain(points=interval, by_a_quarter=interval, **shape)
        (tmp_path / f"{model}.json").write_text(told.model_dump_json())
        write_parquet(
            [
                answered(arm=arm, id=f"{kind}{i}", subject=kind, correct=i < right)
                for arm, right in (("base", 2), ("nearest", 2 + more))
                for kind in KINDS
                for i in range(6)
            ],
            tmp_path / f"{model}.parquet",
        )
    return tmp_path


def call(place, *models):
    kept = [str(place / f"{model}.parquet") for model in models]
    return CliRunner().invoke(app, [str(place), *kept, "--out", str(place / "out")])


def test_each_model_has_what_was_foretold_beside_what_was_won(place):
    assert call(place, *MODELS).exit_code == 0
    found = json.loads((place / "out" / "foretold.json").read_text())
    won = {row["model"]: row["won"] for row in found["models"]}
    assert won == {model: pytest.approx(100 * more / 6) for model, (_, more) in MODELS.items()}
    assert found["wrong"] == ["wrong"] and found["sure"] == 3
    assert found["rank correlation"]["foretold"] == pytest.approx(0.4)
    rows = (place / "out" / "foretold.md").read_text().splitlines()
    assert rows[2].startswith("| `sure` | +20.0 [16.0, 24.0] | 2.00 | +50.0 [") and "| `wrong` | +9.0" in rows[-1]
    assert "−33.3 [" in rows[-1]
    assert "points that the audit foretold" in (place / "out" / "foretold.svg").read_text()


def test_what_is_told_of_the_models_is_what_was_kept(tmp_path):
    kept = [str(path) for part in ("second", "beside") for path in sorted((RESULTS / part).glob("*.parquet"))]
    assert CliRunner().invoke(app, [str(RESULTS / "foretold"), *kept, "--out", str(tmp_path)]).exit_code == 0
    again, told = (json.loads((at / "foretold.json").read_text()) for at in (tmp_path, RESULTS / "foretold"))
    assert len(told["models"]) == 14 and again.keys() == told.keys()
    assert all(one == pytest.approx(other) for one, other in zip(again["models"], told["models"], strict=True))
    assert again["rank correlation"] == pytest.approx(told["rank correlation"]) and again["wrong"] == told["wrong"]
    for page in (RESULTS.parent / "README.md", RESULTS.parents[2] / "docs/explanation/results.md"):
        words = " ".join(page.read_text(encoding="utf-8").split())
        assert f"{told['rank correlation']['foretold']:.2f}" in words[words.index("fourteen models") :][:150]
    rows = [Told(**row) for row in told["models"]]
    gained = [row for row in rows if row.won_low > 0]
    assert len(gained) == 7 and {row.model for row in rows if row.sure} < {row.model for row in gained}
    without = [correlation([other for other in rows if other != row], "foretold") for row in rows]
    more = [sum(row.won - row.foretold for row in of) / len(of) for of in (gained, rows)]
    page = (RESULTS.parent / "README.md").read_text(encoding="utf-8")
    assert f"({min(without):.2f} to {max(without):.2f} with any one model left out)" in page
    assert f"seven that gained the correlation is {correlation(gained, 'foretold'):.2f}" in page
    assert "They won {:.1f} points more than foretold in the mean, all fourteen {:.1f}".format(*more) in page


def test_answers_without_the_arm_are_refused(place):
    write_parquet([answered(arm="base", id="q", subject="a")], place / "sure.parquet")
    result = call(place, "sure")
    assert result.exit_code and "Expected answers of nearest and of base" in result.output
