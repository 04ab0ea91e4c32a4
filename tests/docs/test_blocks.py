"""Every block of every page runs, and prints what the page says; a block that cannot be run here says why."""

import re

import pytest
from docs.blocks import MARK, PAGES, ROOT, blocks, check_output, run

from c3po_adaptive import default_registry

LONG = ("study", "lm_eval", "fixed_or_adaptive", "controls", "passages", "traces", "inspect")  # half a minute and more
WRITTEN = re.compile(r" (written: [\w-]+( [\w/]+)?|end) ")  # parts of pages that docs/_ext/write.py writes
WITH_BLOCKS = [
    pytest.param(page, id=page.stem, marks=pytest.mark.slow if page.stem in LONG else ())
    for page in PAGES
    if any(not block.reason for block in blocks(page))
]


@pytest.fixture
def fresh_registry():
    """What a page loads into the default registry is gone with it."""
    default_registry.cache_clear()
    yield
    default_registry.cache_clear()


@pytest.mark.usefixtures("dense_weights", "fresh_registry", "engines_installed")
@pytest.mark.parametrize("page", WITH_BLOCKS)
def test_pages_run(page, tmp_path, monkeypatch):
    if page.stem == "inspect":
        pytest.importorskip("inspect_ai", reason="the extra inspect is not installed")
    monkeypatch.chdir(tmp_path)
    assert run(page) > 0


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_what_is_not_run_says_why(page):
    marks = [m for m in re.findall(r"<!--(.*?)-->", page.read_text(), re.DOTALL) if not WRITTEN.fullmatch(m)]
    assert [mark for mark in marks if not MARK.fullmatch(f"<!--{mark}-->")] == []
    reasons = [block.reason for block in blocks(page) if block.reason]
    assert len(reasons) == len(marks), "every mark stands before a block"
    assert all(len(reason.split()) > 2 for reason in reasons)


def test_most_blocks_are_run():
    found = [block for page in PAGES for block in blocks(page)]
    assert len([block for block in found if not block.reason]) > 2 * len([block for block in found if block.reason])


@pytest.mark.parametrize(
    ("got", "holds"),
    [
        ("gain 1.21 of 3 in 9 s\n  ████ x", True),
        ("gain 1.25 of 3 in 9 s\n  ████ x", False),
        ("gain 1.21 of 4 in 9 s\n  ████ x", False),
        ("gain 1.21 of 3 in 9 s\n  x", False),
        ("gain 1.21 of 3 in 9 s\n  ████ x and more", False),
    ],
)
def test_output_is_compared(got, holds):
    wanted = "gain 1.20 of 3 in ... s\n██ x\n"
    if holds:
        check_output(wanted, got, "here")
    else:
        with pytest.raises(AssertionError, match="here: expected"):
            check_output(wanted, got, "here")


@pytest.mark.parametrize("between", ["", "  and one\n", "  and one\n  and two\n"])
def test_a_line_of_dots_is_any_lines_or_none(between):
    """What is rounded otherwise elsewhere may print a line less."""
    check_output("  first\n...\nlast\n...\n", f"  first\n{between}last\n{between}", "here")
    with pytest.raises(AssertionError, match="here: expected"):
        check_output("  first\n...\nlast\n...\n", f"  first and\n{between}last", "here")


@pytest.mark.parametrize(
    "text", ["```bash\nfalse\n```", "```python\nraise AssertionError\n```", "```ruby\nputs 1\n```", "```\n1\n```"]
)
def test_pages_that_break_are_found(text, tmp_path, monkeypatch):
    page = tmp_path / "page.md"
    page.write_text(text)
    monkeypatch.setattr("docs.blocks.ROOT", tmp_path)
    with pytest.raises(AssertionError):
        run(page)


def test_files_and_commands_meet(tmp_path, monkeypatch):
    page = tmp_path / "page.md"
    page.write_text(
        "```yaml\n# a/b.yaml\nx: 1\n```\n```bash\ncat a/b.yaml\n```\n```output\n# a/b.yaml\nx: 1\n```\n"
        "<!-- not run: needs a moon -->\n\n```bash\nfalse\n```\n"
    )
    monkeypatch.setattr("docs.blocks.ROOT", tmp_path)
    monkeypatch.chdir(tmp_path)
    assert run(page) == 3


def test_pages_are_those_of_the_project():
    assert len(WITH_BLOCKS) >= 8
    assert all(page.is_relative_to(ROOT / "docs") for page in PAGES)
