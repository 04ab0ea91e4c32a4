"""Pages in a real browser: they ask nothing of the network, raise no error, leave axe nothing to find, and work."""

import csv
import importlib.util
import json
import shutil
from pathlib import Path

import pytest
from report.test_report import ARMS, run, synthetic

from c3po_adaptive.report.comparison_page import render
from c3po_adaptive.storage.run_folder import COMMAND, claim
from c3po_adaptive.types import Question

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
LACKING = [name for name in ("playwright", "axe_playwright_python") if importlib.util.find_spec(name) is None]
if CHROMIUM is None:
    LACKING.append("chromium")
pytestmark = pytest.mark.skipif(
    bool(LACKING), reason=f"needs {', '.join(LACKING)}: pip install -e .[browser], Debian's chromium"
)

FLAGS = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking"),
    *("--disable-component-update", "--disable-sync"),
)
WIDE, NARROW = {"width": 1400, "height": 900}, {"width": 390, "height": 800}
ODD = 'Is <b>it</b> & "that"? £ ω'


@pytest.fixture(scope="module")
def browser():
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=list(FLAGS))
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def report(tmp_path_factory) -> Path:
    """Of a run with several data sets and arms, one of them a headline, and texts for some questions."""
    folder = tmp_path_factory.mktemp("run")
    token = COMMAND.set("c3po study run config.yaml --out run")
    claim(folder, {}, "smollm2-moe")
    COMMAND.reset(token)
    records = synthetic(40, ("arc", "piqa"))
    asked = {
        ("arc", r["id"]): Question(r["id"], ODD, ("one", "two", "three", "four"), r["answer"])
        for r in records
        if r["dataset"] == "arc"
    }
    return render(run(folder, records, headline="ngd-attribution"), asked)


@pytest.fixture(scope="module")
def explanation(tmp_path_factory) -> Path:
    from test_api import CHOICES, TEXTS, optimizer

    selector = {"name": "gradient", "n": 2, "experts": 6}
    found = optimizer(selector=selector).explain(TEXTS[0], CHOICES[0])
    return found.save(tmp_path_factory.mktemp("explained") / "page.html", "c3po explain …")


@pytest.fixture(scope="module")
def pages(report, explanation, tmp_path_factory) -> dict[str, Path]:
    """One of each kind; that of a study from committed results."""
    from speed.draw import page as speed
    from speed.rows import SpeedSummary

    made = {"report": report, "explanation": explanation, "speed": tmp_path_factory.mktemp("speed") / "report.html"}
    summary = Path(__file__).parents[2] / "studies" / "speed" / "results" / "summary.json"
    made["speed"].write_text(speed(SpeedSummary.model_validate_json(summary.read_text())))
    return made


class Opened:
    """A page, with what it asked of the network and what it complained about."""

    def __init__(self, browser, path, address="", **settings):
        self.context = browser.new_context(**{"viewport": WIDE, "accept_downloads": True} | settings)
        self.page, self.asked, self.errors = self.context.new_page(), [], []
        self.page.on("request", lambda request: self.asked.append(request.url))
        self.page.on("console", lambda message: self.errors.append(message.text))
        self.page.on("pageerror", lambda error: self.errors.append(str(error)))
        self.url = f"file://{path}"
        self.page.goto(self.url + address)

    def __enter__(self):
        return self

    def __exit__(self, *error):
        self.context.close()

    def saved(self, button) -> list[list[str]]:
        """Rows of the CSV file that a button downloads."""
        with self.page.expect_download() as download:
            button.click()
        with open(download.value.path(), newline="") as file:
            return list(csv.reader(file))


KINDS = ("report", "explanation", "speed")


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("viewport", "scheme"), [(WIDE, "light"), (NARROW, "light"), (WIDE, "dark"), (NARROW, "dark")])
def test_pages_stand_alone_fit_and_are_accessible(browser, pages, kind, viewport, scheme):
    from axe_playwright_python.sync_playwright import Axe

    with Opened(browser, pages[kind], viewport=viewport, color_scheme=scheme) as opened:
        for details in opened.page.locator("details").all()[:3]:
            details.locator("summary").click()
        found = Axe().run(opened.page)
        assert [(v["id"], v["nodes"][0]["html"][:200]) for v in found.response["violations"]] == []
        assert opened.asked == [opened.url]
        assert opened.errors == []
        assert opened.page.evaluate("document.documentElement.scrollWidth") <= viewport["width"]
        assert opened.page.locator("main").count() == 1


def test_tables_need_no_scrolling_where_there_is_room(browser, report):
    wider = ".filter((table) => table.scrollWidth > table.clientWidth).map((table) => table.ariaLabel)"
    with Opened(browser, report) as opened:
        assert "would have been found" in opened.page.locator(".results").first.inner_text(), "long cells are there"
        assert opened.page.evaluate(f"[...document.querySelectorAll('.wide')]{wider}") == []


@pytest.mark.parametrize("kind", KINDS)
def test_pages_are_dark_where_that_is_wanted_and_light_on_paper(browser, pages, kind):
    ground, ink = "getComputedStyle(document.body).backgroundColor", "svg text"
    with Opened(browser, pages[kind], color_scheme="dark") as opened:
        page = opened.page
        drawn = f"getComputedStyle(document.querySelector('{ink}')).fill"
        assert page.evaluate(ground) == "rgb(20, 23, 26)"
        assert page.evaluate(drawn) == "rgb(230, 232, 234)", "plots, too"
        page.emulate_media(media="print", color_scheme="dark")
        assert page.evaluate(ground) == "rgb(251, 251, 250)"
        assert page.evaluate(drawn) == "rgb(29, 33, 38)"
        assert not page.locator(".tabletools").first.is_visible()
        page.set_viewport_size({"width": 720, "height": 1000})  # A4 between its margins
        assert page.evaluate("document.documentElement.scrollWidth") <= 720


class TestTables:
    def test_headings_sort(self, browser, report):
        with Opened(browser, report) as opened:
            table = opened.page.locator("table.results").first
            heading = table.get_by_role("columnheader", name="Cost")
            found = []
            for _ in range(2):
                heading.get_by_role("button").click()
                found.append([float(t.split()[0]) for t in table.locator("tbody td:last-child").all_inner_texts()])
            assert heading.get_attribute("aria-sort") == "ascending"
            assert found == [sorted(found[0], reverse=True), sorted(found[0])]
            assert len(set(found[0])) > 3
            table.get_by_role("columnheader", name="Arm").get_by_role("button").click()
            names = table.locator("tbody th").all_inner_texts()
            assert [name.split()[0] for name in names] == sorted(ARMS)
            assert heading.get_attribute("aria-sort") is None

    def test_sorted_on_a_phone(self, browser, report):
        with Opened(browser, report, viewport=NARROW) as opened:
            opened.page.get_by_label("Sort by").first.select_option("Accuracy, %")
            texts = opened.page.locator("table.results").first.locator("tbody tr td:nth-child(2)").all_inner_texts()
            assert [float(t) for t in texts] == sorted(map(float, texts), reverse=True)

    @pytest.mark.parametrize("kind", KINDS)
    def test_each_is_saved_with_a_field_for_every_name(self, browser, pages, kind):
        with Opened(browser, pages[kind]) as opened:
            tables = opened.page.locator("table")
            buttons = opened.page.locator(".tabletools button")
            assert buttons.count() == tables.count() > 0
            for table, button in zip(tables.all(), buttons.all(), strict=True):
                names, *rows = opened.saved(button)
                assert len(rows) == table.locator("tbody tr").count() > 0
                assert {len(row) for row in rows} == {len(names)}
                assert len(set(names)) == len(names)
            assert opened.errors == []

    def test_numbers_are_the_summary_s(self, browser, report):
        summary = json.loads((report.parent / "summary.json").read_text())
        with Opened(browser, report) as opened:
            names, *rows = opened.saved(opened.page.locator(".tabletools button").first)
        for row in (dict(zip(names, row, strict=True)) for row in rows):
            arm = row["Arm"].split()[0]
            (own,) = [r for r in summary["rows"] if (r["dataset"], r["arm"]) == ("all", arm)]
            assert float(row["accuracy"]) == pytest.approx(own["accuracy"], rel=1e-4)
            if arm != "base":
                assert [float(row[k]) for k in ("gain", "gain_low", "gain_high")] == pytest.approx(
                    [own[k] for k in ("gain", "ci_low", "ci_high")], rel=1e-4
                )


class TestExperts:
    def test_drawn_by_arm_and_saved(self, browser, report):
        with Opened(browser, report) as opened:
            page = opened.page
            assert page.locator("#use").input_value() == "ngd-attribution"
            page.locator("#use").select_option("oracle")
            assert page.locator(".heat h3").all_inner_texts() == ["Re-mixed: the weight changed", "Raised", "Lowered"]
            names, *rows = opened.saved(page.locator("#usecsv"))
            kept = [dict(zip(names, map(int, row), strict=True)) for row in rows]
            assert sum(r["raised"] for r in kept) > 100 < sum(r["lowered"] for r in kept)
            assert page.locator(".heat").first.locator("rect").count() == sum(r["changed"] > 0 for r in kept)
            assert all(r["changed"] == r["raised"] + r["lowered"] for r in kept)
            assert {r["answers"] for r in kept} == {80}


class TestQuestions:
    def test_an_address_opens_its_question(self, browser, report):
        id_ = synthetic(40, ("arc", "piqa"))[-1]["id"]  # the last is not among those that are listed first
        for address, named in ((f"#q-{id_}", "arc"), (f"#q-piqa-{id_}", "piqa")):
            with Opened(browser, report, address) as opened:
                item = opened.page.locator("details.question[open]")
                assert item.count() == 1
                assert f"{id_} · {named}" in item.inner_text()
                assert item.is_visible()
                box = item.bounding_box()
                assert -1 <= box["y"] < 400, "it is scrolled to"

    def test_the_sign_beside_a_question_is_its_address(self, browser, report):
        from playwright.sync_api import expect

        with Opened(browser, report) as opened:
            page = opened.page
            page.get_by_label("Search").fill("analogy-003")
            page.locator(".permalink").first.click()
            assert page.url.endswith("#q-analogy-003")
            opened_now = page.locator("details.question[open]")
            expect(opened_now).to_contain_text("analogy-003 · arc", use_inner_text=True)
            page.evaluate("location.hash = '#q-analogy-009'")
            page.wait_for_function("document.querySelector('#q-analogy-009 details')?.open")
            assert page.get_by_label("Search").input_value() == "", "filters that hide it are taken back"
            assert opened.errors == []

    def test_texts_stay_texts_and_arms_can_be_changed(self, browser, report):
        with Opened(browser, report) as opened:
            first = opened.page.locator("details.question").first
            first.locator("summary").click()
            assert first.locator(".title").inner_text() == ODD
            assert first.locator("b b").count() == 0
            first.get_by_role("button", name="oracle").click()
            assert "Options under oracle" in first.inner_text()
            assert "Layer 25: most gained by expert" in first.inner_text()
            shares = [float(t.split()[0]) for t in first.locator(".bar.after").all_inner_texts()]
            assert sum(shares) == pytest.approx(100, abs=0.3)
