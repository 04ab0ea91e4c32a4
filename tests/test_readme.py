"""The README keeps its word."""

import json
import re
from pathlib import Path

import pytest

from c3po_adaptive import default_registry

README = (Path(__file__).parents[1] / "README.md").read_text(encoding="utf-8")


def test_every_strategy_is_in_the_table_and_nothing_else():
    rows = set(re.findall(r"^\| (optimizer|kernel|retriever|selector) \| `([a-z-]+)` \|", README, re.M))
    builtin = {(e.role, e.name) for e in default_registry().table() if e.plugin == "builtin"}
    assert rows == builtin


def test_every_named_path_exists():
    root = Path(__file__).parents[1]
    for name in ("plugins/entropy_descent.py", "c3po_adaptive/embedded/MODEL_CARD.md"):
        assert name in README
        assert (root / name).is_file()


def test_the_first_snippet_runs(tmp_path, monkeypatch):
    from c3po_adaptive.embedded.builder import fetch
    from c3po_adaptive.errors import ArtifactError
    from c3po_adaptive.paths import cache_folder
    from c3po_adaptive.tasks.loaders import demo_questions

    try:
        fetch(cache_folder())
    except ArtifactError as error:
        if "by hand" not in str(error):  # a file that is there, but is not what it should be
            raise
        pytest.skip(f"the dense weights cannot be had: {error}")
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
    assert names["omega"].weights.shape == names["omega"].own.shape == (14, 64)
    assert names["output"].logits.ndim == 3
    assert isinstance(names["text"], str)
    assert names["answer"].choice in (0, 1)
