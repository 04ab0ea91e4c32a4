"""The README keeps its word."""

import json
import re
from pathlib import Path

from models.families.checks import as_markdown

from c3po_adaptive import default_registry, hookspecs

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def test_every_strategy_is_in_the_table_and_nothing_else():
    rows = set(re.findall(r"^\| (optimizer|kernel|retriever|selector|answerer) \| `([a-z-]+)` \|", README, re.M))
    builtin = {(e.role, e.name) for e in default_registry().table() if e.plugin == "builtin"}
    assert rows == builtin


def test_hooks_are_those_that_there_are():
    named = set(re.findall(r"register_\w+", README))
    assert named == {name for name in vars(hookspecs) if name.startswith("register_")}


def test_families_are_those_of_the_table():
    assert as_markdown() in README


def test_every_named_path_exists():
    named = set(re.findall(r"`((?:c3po_adaptive|plugins|studies|tests)/[\w./-]*)`", README))
    tree = re.search(r"```\n(c3po_adaptive/\n.*?)```", README, re.S)
    assert tree is not None
    folder = ""
    for line in tree.group(1).splitlines():
        paths = line.split("  " if line.startswith("  ") else " ", 2)[1 if line.startswith("  ") else 0]
        folder = folder if line.startswith("  ") else paths
        found = [paths] if not line.startswith("  ") else [folder + p.strip(",") for p in paths.split()]
        named |= set(found)
    assert len(named) > 25
    assert [name for name in sorted(named) if not (ROOT / name).exists()] == []


def test_results_are_those_of_the_committed_summaries():
    summaries = [
        json.loads((ROOT / "studies" / name / "results" / "summary.json").read_text()) for name in ("demo", "arc_easy")
    ]
    for arm in (row["arm"] for row in summaries[0]["rows"]):
        cells = []
        for summary in summaries:
            row = next(r for r in summary["rows"] if r["arm"] == arm)
            gain = (
                ""
                if arm == summary["baseline"]
                else f"{row['gain']:+.1f} [{row['ci_low']:+.1f}, {row['ci_high']:+.1f}]"
            )
            cells += [f"{row['accuracy']:.1f}", gain]
        assert f"| `{arm}` | {' | '.join(cells)} | {row['cost']['total']:.1f} |" in README


def test_ratios_are_those_of_the_committed_study():
    summary = json.loads((ROOT / "studies" / "speed" / "results" / "summary.json").read_text())
    for row in summary["rows"]:
        cells = f"{row['ratio']:.2f} [{row['ratio_min']:.2f}, {row['ratio_max']:.2f}] | {row['flops_ratio']:.2f}"
        assert f"| `{row['case']}` | {cells} | {row['over_flops']:.2f} |" in README
    for row in summary["searches"]:
        assert f"{row['milliseconds']:.1f} ms" in README
        assert f"recall {row['recall']:.3f}" in README


def test_the_first_snippet_runs(dense_weights, tmp_path, monkeypatch):
    from c3po_adaptive.tasks.files import demo_questions

    monkeypatch.chdir(tmp_path)
    rows = [
        {"id": q.id, "task": q.task, "question": q.question, "choices": list(q.choices), "answer": q.answer}
        for q in demo_questions("references", limit=24)
    ]
    Path("commonsense_qa.jsonl").write_text("\n".join(map(json.dumps, rows)))
    snippet = re.search(r"```python\n(from c3po_adaptive import Optimizer.*?)```", README, re.S)
    assert snippet is not None
    names: dict = {}
    exec(snippet.group(1), names)
    assert names["omega"].weights.shape == names["omega"].own.shape == (12, 64)
    assert names["output"].logits.ndim == 3
    assert isinstance(names["text"], str)
    assert names["answer"].choice in (0, 1)
