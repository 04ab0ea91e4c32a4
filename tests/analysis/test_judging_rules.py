"""The rules that a run was judged by are recorded with it."""

from records.made import answered, summarize

from c3po_adaptive.analysis import judging_rules as judging
from c3po_adaptive.analysis.judging_rules import changed_since, rules


def test_stand_in_the_summary():
    records = [answered(arm="base", id="1", correct=True, setting={"changes": "nothing"})]
    assert summarize(records, config={}, seed=0)["hashes"]["rules"] == rules()


def test_are_the_files_that_decide(tmp_path, monkeypatch):
    """Another line in any of them makes other rules."""
    folder = judging.Path(judging.__file__).parent
    for name in judging.FILES:
        (tmp_path / f"{name}.py").write_bytes((folder / f"{name}.py").read_bytes())
    monkeypatch.setattr(judging, "__file__", str(tmp_path / "rules.py"))
    assert rules.__wrapped__() == rules()
    found = set()
    for name in judging.FILES:
        with (tmp_path / f"{name}.py").open("a") as file:
            file.write("# changed\n")
        found.add(rules.__wrapped__())
    assert len(found - {rules()}) == len(judging.FILES)
    assert {"verdict", "power", "matching_controls", "statistics"} <= {*judging.FILES}


def test_that_they_changed_is_one_line():
    assert changed_since(rules()) is None
    assert changed_since("0123456789ab").startswith("rules changed since: its verdicts were made by rules 0123456789ab")
    assert "before rules were recorded" in changed_since(None)
