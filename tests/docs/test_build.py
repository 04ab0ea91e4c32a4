"""The pages build without a warning, and what is written from the code is all there."""

import html
import json
import re
import subprocess
import sys
from importlib.util import find_spec

import pytest
import typer
from c3po_bed import KINDS, LEARNED
from c3po_benchmarks import BENCHMARKS
from docs.blocks import PAGES, ROOT

import c3po_adaptive
from c3po_adaptive import default_registry, hookspecs
from c3po_adaptive.cli import app
from c3po_adaptive.models.family_table import ABILITIES, families, reason
from c3po_adaptive.models.loading import ALIASES
from c3po_adaptive.study.kinds import kinds

STUDIES = ROOT / "studies"


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """The folder of the built pages; a warning is an error."""
    missing = [name for name in ("sphinx", "myst_parser", "furo") if find_spec(name) is None]
    if missing:
        pytest.skip(f"needs {', '.join(missing)}: pip install 'c3po_adaptive[docs]'")
    out = tmp_path_factory.mktemp("pages")
    command = [sys.executable, "-m", "sphinx", "-q", "-W", "--keep-going", "-b", "html", str(ROOT / "docs"), str(out)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return out


@pytest.fixture
def page(built):
    """A page's markup by its name, and the text that is read."""

    def read(name):
        markup = (built / f"{name}.html").read_text(encoding="utf-8")
        return markup, " ".join(html.unescape(re.sub(r"<[^>]+>", " ", markup)).split())

    return read


def rows(text):
    """Cells of each row of each table."""
    found = re.findall(r"<tr[^>]*>(.*?)</tr>", text, re.DOTALL)
    return [
        [
            " ".join(html.unescape(re.sub(r"<[^>]+>", "", c)).split())
            for c in re.findall(r"<t[dh][^>]*>(.*?)</t[dh]>", r, re.DOTALL)
        ]
        for r in found
    ]


def test_every_public_name_is_there(page):
    markup, _ = page("reference/api")
    missing = [name for name in c3po_adaptive.__all__ if f'id="c3po_adaptive.{name}"' not in markup]
    assert missing == []


def test_every_strategy_is_there_with_its_parameters(page):
    markup, text = page("reference/strategies")
    registry = default_registry()
    for entry in registry.table():
        if entry.plugin not in registry.files:  # companions', too
            assert f'id="{entry.module}.{entry.cls.__name__}"' in markup
            assert entry.name in {cells[0] for cells in rows(markup)}
            assert all(re.search(rf"\b{name}\b", text) for name in entry.parameters)


def test_every_command_and_option_is_there(page):
    markup, _ = page("reference/command_line")
    shown = {cell for cells in rows(markup) for cell in re.findall(r"--[\w-]+", cells[0])}

    def below(command, path):
        assert f">{path}<" in markup
        options = {name for p in command.params for name in p.opts if name.startswith("--")}
        assert options <= shown
        return 1 + sum(below(one, f"{path} {name}") for name, one in getattr(command, "commands", {}).items())

    assert below(typer.main.get_command(app), "c3po") > 15


def test_every_key_of_every_configuration_is_there(page):
    markup, _ = page("reference/configuration")
    shown = {cells[0] for cells in rows(markup)}
    for kind, study in kinds(default_registry()).items():
        schema = study.config.model_json_schema()
        records = [schema, *schema.get("$defs", {}).values()]
        assert {name for record in records for name in record["properties"]} <= shown
        assert f"kind: {kind}" in markup
    loss = next(cells for cells in rows(markup) if cells[0] == "loss")
    assert loss[1:3] == ["choices, likelihood, lead", "choices"]
    assert next(cells for cells in rows(markup) if cells[0] == "arms")[1] == "mapping of Arm"


def test_every_family_model_and_benchmark_is_there(page):
    _, text = page("reference/models")
    for family, row in families().items():
        assert re.search(rf"\b{family}\b", text)
        assert all(row.get(one) is True for one in ABILITIES) or " ".join(reason(row).split()) in text
    assert all(f"{name} {hub}" in text for name, hub in ALIASES.items())
    assert all(f"{name} {one.path}" in page("howto/own_questions")[1] for name, one in BENCHMARKS.items())


def test_every_kind_of_the_bed_is_there_with_its_terms(page):
    shown = {cells[0]: cells for cells in rows(page("reference/bed")[0].replace("’", "'"))}
    for name, kind in KINDS.items():
        _, asks, family, _, licence, _ = shown[name]
        assert asks == kind.about
        assert LEARNED.get(name, "") in family
        assert licence == f"{kind.source.terms}: {kind.source.licence}"


def test_results_are_those_of_the_committed_summary(page):
    summary = json.loads((STUDIES / "merged" / "results" / "second" / "compared" / "summary.json").read_text())
    shown = rows(page("reference/results")[0].replace("’", "'"))
    gains = {one["a"]: one for one in summary["comparisons"] if (one["on"], one["b"]) == ("gated", "base")}
    found = [row for row in summary["rows"] if row["on"] == "gated" and row["arm"] in gains]
    assert len(found) == len(gains) > 15
    for row in found:
        one = gains[row["arm"]]
        gain = f"{one['difference']:+.1f} [{one['ci_low']:+.1f}, {one['ci_high']:+.1f}]"
        assert [row["arm"], f"{row['n']:,}", f"{row['accuracy']:.1f}", gain, f"{row['cost']:.1f}"] in shown


def test_costs_are_those_of_the_committed_study(page):
    summary = json.loads((STUDIES / "speed" / "results" / "summary.json").read_text())
    shown = rows(page("explanation/costs")[0])
    for row in summary["rows"]:
        ratio = f"{row['ratio']:.2f} [{row['ratio_min']:.2f}, {row['ratio_max']:.2f}]"
        assert [row["case"], ratio, f"{row['flops_ratio']:.2f}", f"{row['over_flops']:.2f}"] in shown
    assert all(any(f"{row['milliseconds']:.1f}" in cells for cells in shown) for row in summary["searches"])


def test_equations_need_no_script(page):
    markup, _ = page("explanation/method")
    assert markup.count("<math") > 10
    assert "<script" in markup, "the theme's own"
    assert not re.search(r"<script[^>]*(https?:|mathjax)", markup, re.IGNORECASE)


def test_marks_are_shown(page):
    _, text = page("howto/olmoe")
    assert "Not run by this page's test: needs a GPU and OLMoE's weights from the Hub." in text.replace("’", "'")


def test_hooks_are_those_that_there_are():
    named = set(re.findall(r"register_\w+", (ROOT / "docs" / "howto" / "plugins.md").read_text()))
    assert named == {name for name in vars(hookspecs) if name.startswith("register_")}


def test_every_page_is_in_a_table_of_contents():
    index = (ROOT / "docs" / "index.md").read_text()
    names = [str(page.relative_to(ROOT / "docs").with_suffix("")) for page in PAGES if page.stem != "index"]
    assert [name for name in names if not re.search(rf"^{name}$", index, re.MULTILINE)] == []
