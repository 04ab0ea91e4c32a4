"""What the paper varies stands beside its figures as the kept answers say."""

from pathlib import Path

from c3po_compare.records import ComparedSummary
from paper.beside import PUBLISHED, PUBLISHED_BASE, table

from c3po_adaptive.records.parquet import read_parquet

RESULTS = Path(__file__).parents[2] / "studies" / "paper" / "results"


def test_settings_stand_beside_what_the_paper_tells_of_them():
    found = ComparedSummary.model_validate_json((RESULTS / "merged" / "summary.json").read_bytes())
    written = (RESULTS / "merged" / "beside.md").read_text(encoding="utf-8")
    assert written == table(found)
    rows = {cells[1].strip(): cells for cells in (line.split("|") for line in written.splitlines())}
    assert PUBLISHED.keys() < rows.keys() and rows["base"][3].strip() == "–"
    readme = (RESULTS.parent / "README.md").read_text(encoding="utf-8")
    told = readme.split("## What the paper reports")[1]
    assert all(f"{value:g}" in told for value in (*PUBLISHED.values(), PUBLISHED_BASE))
    assert rows["steps / 3"][5].strip() == "+4.3" and rows["steps / 3"][6].strip() == "−5.0"


def test_as_published_no_answer_changes():
    records = read_parquet(RESULTS / "merged.parquet")
    choices = {arm: {r.id: r.choice for r in records if r.arm == arm} for arm in ("base", "published", "tuned")}
    assert choices["published"] == choices["base"] != choices["tuned"]
    assert len(choices["base"]) == 105
