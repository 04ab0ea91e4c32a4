"""The README keeps its word, and so does every page that names a path."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")
PAGES = sorted([ROOT / "README.md", ROOT / "CONTRIBUTING.md", *(ROOT / "docs").rglob("*.md")])


def test_it_is_two_screens():
    assert len(README.splitlines()) <= 90


def test_its_blocks_are_the_two_commands_and_the_snippet():
    """CI runs the second one; the snippets are run below."""
    tested = re.search(r"run: (.*pytest.*)", (ROOT / ".github/workflows/tests.yml").read_text())[1]
    assert re.findall(r"^```(\w+)\n(.*?)```", README, re.S | re.M) == [
        ("python", FIRST),
        ("bash", "python3 -m venv .venv && .venv/bin/pip install -q . && .venv/bin/c3po demo\n"),
        ("bash", f"{tested}\n"),
        ("python", SNIPPET),
    ]


def test_it_says_what_runs_in_released_engines():
    """``lm_eval`` itself finds ``c3po`` in no release; the plugin's extras bar vLLM after 0.33."""
    assert "`python -m c3po_harness --model c3po --model_args rule=…`" in README
    assert "in vLLM 0.32 and 0.33 |" in README
    assert 'vllm = ["vllm>=0.32,<0.34"]' in (ROOT / "plugins" / "vllm" / "pyproject.toml").read_text()


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_every_named_path_exists(page):
    named = re.findall(r"`((?:c3po_adaptive|plugins|studies|tests|docs)/[\w./-]*)`", page.read_text(encoding="utf-8"))
    assert [name for name in named if not (ROOT / name).exists() and "/my_" not in name] == []


def test_what_machines_read_leads_to_pages():
    links = re.findall(r"\]\(([^)]+)\)", (ROOT / "llms.txt").read_text(encoding="utf-8"))
    assert len(links) > 15
    assert [link for link in links if not (ROOT / link).is_file()] == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_every_link_leads_to_a_page(page):
    links = re.findall(r"\]\((?!https?:|#)([^)#]+)(?:#[^)]*)?\)", page.read_text(encoding="utf-8"))
    assert [link for link in links if not (page.parent / link).is_file()] == []
    assert page.name != "README.md" or len(links) > 15


def test_the_tree_names_what_is_there():
    tree = re.search(r"```\n(c3po_adaptive/\n.*?)```", (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8"), re.S)
    assert tree is not None
    folder, named = "", []
    for line in tree.group(1).splitlines():
        paths = line.split("  " if line.startswith("  ") else " ", 2)[1 if line.startswith("  ") else 0]
        folder = folder if line.startswith("  ") else paths
        named += [paths] if not line.startswith("  ") else [folder + p.strip(",") for p in paths.split()]
    assert len(named) > 25
    assert [name for name in named if not (ROOT / name).exists()] == []


def test_code_comes_within_sixty_words_and_a_picture_after_it():
    before = re.sub(r"\[!\[.*?\)\]\(.*?\)", "", README[: README.index("```python")])
    assert len(before.split()) <= 60
    assert len([line for line in FIRST.splitlines() if line]) <= 5
    assert README.index("](docs/images/tokens_by_layers.png)") < README.index("```bash")


FIRST = re.search(r"```python\n(.*?)```", README, re.S)[1]
SNIPPET = re.search(r"```python\n(from c3po_adaptive import Optimizer.*?)```", README, re.S)[1]


def test_the_first_lines_draw_a_picture(dense_weights, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    names: dict = {}
    exec(FIRST, names)
    assert Path("moved.png").stat().st_size > 10_000
    shown = (ROOT / "docs" / "images" / "make_tokens_by_layers.py").read_text(encoding="utf-8")
    assert f'TEXT = "{names["text"]}"' in shown and "EXPERT = 11" in shown, "the picture is of the same text"


def test_the_snippet_runs(dense_weights, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    names: dict = {}
    exec(SNIPPET, names)
    assert names["omega"].weights.shape == names["omega"].own.shape == (12, 16)
    assert names["text"].startswith(" lighter than the water"), "what the embedded model continues sensibly"
    assert names["answer"].choice in (0, 1)
