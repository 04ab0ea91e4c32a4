"""The report stands alone, shows every arm, and cannot be broken by a question's text."""

import json
import random
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import ClassVar

import pytest
from markupsafe import escape
from records.made import answered, made, plain, row_of, summarize
from scipy import stats

from c3po_adaptive.analysis.expert_use import expert_use
from c3po_adaptive.analysis.matching_controls import RANDOM_NEIGHBOURS
from c3po_adaptive.errors import DataError, SettingError
from c3po_adaptive.records.answer import AnswerRecord
from c3po_adaptive.records.jsonl import Records
from c3po_adaptive.records.summary import RowCost
from c3po_adaptive.report import drawing, plots, published_figures
from c3po_adaptive.report.comparison_page import render
from c3po_adaptive.report.plots import cost_over
from c3po_adaptive.storage.files import write_text
from c3po_adaptive.storage.run_folder import COMMAND, claim
from c3po_adaptive.study.comparison import ComparisonConfig
from c3po_adaptive.types import Question

ARMS = {
    "base": "none",
    "kernel-regression": "kernel-regression",
    "mode-finding": "mode-finding",
    "ngd": "ngd",
    "ngd-attribution": "ngd",
    "ngd-random-neighbours": "ngd",
    "oracle": "oracle",
}
SETTINGS = {
    arm: {"optimizer": {"name": name}, "selector": {"name": "attribution" if arm == "ngd-attribution" else "fixed"}}
    for arm, name in ARMS.items()
}
SETTINGS["base"]["changes"] = "nothing"
SETTINGS["ngd-random-neighbours"] |= {"control_of": ["ngd"], "varies": [RANDOM_NEIGHBOURS]}
COST = {"base": 1.0, "kernel-regression": 4.2, "mode-finding": 1.1, "ngd": 6.4, "ngd-attribution": 7.9, "oracle": 3.6}
SUBJECTS = ("analogy", "arithmetic-word-problem", "what-you-use-it-for")


def synthetic(
    n: int, datasets: tuple[str, ...] = ("demo",), arms: tuple[str, ...] = tuple(ARMS), seed: int = 0
) -> list[dict]:
    """Records of a made-up run: base is right half the time, and each arm moves its scores a little."""
    random_ = random.Random(seed)
    return [
        record
        for dataset in datasets
        for i in range(n)
        for record in _answers(
            dataset, f"{SUBJECTS[i % len(SUBJECTS)]}-{i:03d}", SUBJECTS[i % len(SUBJECTS)], arms, random_
        )
    ]


def _answers(dataset: str, id_: str, subject: str, arms: tuple[str, ...], random_: random.Random) -> list[dict]:
    base = [random_.gauss(-2, 0.6) for _ in range(4)]
    gold = max(range(4), key=base.__getitem__) if random_.random() < 0.5 else random_.randrange(4)
    own = {layer: {str(e): random_.random() / 8 for e in random_.sample(range(64), 8)} for layer in range(15, 30)}
    return [_record(dataset, id_, subject, arm, base, gold, own, random_) for arm in arms]


def _record(dataset, id_, subject, arm, base, gold, own, random_) -> dict:
    scores, layers, pathway = list(base), [], {}
    if arm != "base":
        scores = [s + random_.gauss(0, 0.12) + 0.6 * (arm == "oracle") * (c == gold) for c, s in enumerate(base)]
        layers = sorted(random_.sample(range(15, 30), 5)) if arm == "ngd-attribution" else [25, 26, 27, 28, 29]
    for layer in layers:
        core = {**own[layer], **{str(e): 0.01 for e in random_.sample(range(64), 6)}}
        pathway[str(layer)] = {"own": own[layer], "new": {e: w * random_.uniform(0.5, 1.5) for e, w in core.items()}}
    choice, was = (max(range(4), key=s.__getitem__) for s in (scores, base))
    near = [
        {"id": f"ref-{random_.randrange(50):03d}", "similarity": 0.8 - k / 10, "weight": 0.5 - k / 6} for k in range(3)
    ]
    total = COST.get(arm, 6.4)
    raised = {k: [int(e) for e, w in v["new"].items() if w > v["own"].get(e, 0)] for k, v in pathway.items()}
    return plain(answered(
        id=id_, dataset=dataset, subject=subject, arm=arm, setting=SETTINGS[arm], answer=gold, choice=choice,
        base_choice=was, base_correct=was == gold, scores=scores, base_scores=base, layers=layers, raised=raised,
        experts={k: [int(e) for e in v["new"]] for k, v in pathway.items()},
        layer_scores={str(k): random_.random() for k in range(16, 30)} if arm == "ngd-attribution" else {},
        needs_label=arm == "oracle", pathway=pathway, neighbours=near if arm not in ("base", "oracle") else [],
        cost={"embedding": 0.01, "references": 0.0, "attribution": 1.5 * (arm == "ngd-attribution"),
              "optimisation": total - 1.01 - 1.5 * (arm == "ngd-attribution"), "answer": 0.0,
              "prefill": 1.0, "total": total},
        seconds=0.12,
    ))  # fmt: skip


def run(folder: Path, records: list[dict], **settings) -> Path:
    """A finished run folder."""
    folder.mkdir(exist_ok=True)
    rows = Records(folder, AnswerRecord)
    for record in made(records):
        rows.append(record)
    write_text(
        folder / "summary.json", json.dumps(summarize(records, config={"limit": len(records)}, seed=0, **settings))
    )
    return folder


class Page(HTMLParser):
    """Addresses that a page asks for, and the text of its scripts by type."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.addresses: list[str] = []
        self.scripts: dict[str, str] = {}
        self._type: str | None = None
        self.feed(html)

    def handle_starttag(self, tag, attrs):
        self.addresses += [v or "" for k, v in attrs if k in ("src", "href", "xlink:href", "srcset", "action")]
        self._type = dict(attrs).get("type", "text/javascript") if tag == "script" else None

    def handle_data(self, data):
        if self._type:
            self.scripts[self._type] = self.scripts.get(self._type, "") + data

    def handle_endtag(self, tag):
        self._type = None

    @property
    def data(self) -> dict:
        """With answers by name, as the page's own script takes them."""
        data = json.loads(self.scripts["application/json"])
        names = ("q", "arm", "seed", "choice", "before", "after", "layers", "cost", "seconds", "detail")
        answers = [dict(zip(names, answer, strict=True)) for answer in data["answers"]]
        return data | {
            "answers": [a | (data["details"][a["detail"]] if a["detail"] is not None else {}) for a in answers]
        }


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    return run(tmp_path_factory.mktemp("run"), synthetic(12))


def test_axes_have_whole_questions_possible_accuracies_and_no_tex():
    few = {"gain": 0.0, "ci_low": -90.0, "ci_high": 90.0, "flips_up": 0, "flips_down": 0}
    free = dict.fromkeys(("prefill", "embedding", "attribution", "optimisation"), 0.0)
    rows = [
        row_of(arm, 50.0, role=role, cost=free | {"total": total, "once": once}, **few)
        for arm, role, total, once in (("base", "base", 1.0, 0.0), ("ngd", "method", 30.0, 400.0))
    ]
    drawn = {draw: draw(rows) for draw in (plots.flips, plots.costs, plots.costs_over)}
    texts = {draw: re.findall(r"<text[^>]*>([^<]*)</text>", svg) for draw, svg in drawn.items()}
    assert {text for text in texts[plots.flips] if text.isdigit()} == {"0", "1"}
    assert {float(text) for text in texts[plots.costs] if text.isdigit()} <= set(range(101))
    assert "1,000,000" in texts[plots.costs_over]
    assert not [text for each in texts.values() for text in each if "$" in text or re.match(r"[-−]\d|\d\.\d", text)]


def test_asks_for_nothing_outside_itself(folder):
    html = render(folder).read_text()
    assert all(address.startswith("#") for address in Page(html).addresses)
    html = html.replace("http://www.w3.org/2000/svg", "")  # a namespace is a name
    assert not re.search(r"https?://|@import|url\((?!#)|fetch\(|XMLHttpRequest", html)


def test_shows_each_arm_sentence_and_figure(folder):
    html = render(folder).read_text()
    table = html[html.index("<table") : html.index("</table>")]
    assert all(f"</span>{arm}" in table for arm in ARMS)
    assert html.count("<svg") == 7
    assert Page(html).data["arms"] == list(ARMS)
    assert "an upper bound that uses the labels" in html


def test_begins_with_what_the_run_is_about_and_a_picture(folder):
    html = render(folder).read_text()
    begin = html.index('class="card opening"')
    opening, folded = html[begin : html.index("</details>", begin)].split("<details>")
    arm = Page(html).data["shown"]
    assert f"<li><b>{arm}</b>:" in opening
    assert opening.count("<li>") == opening.count("<svg") == 1
    told = re.findall(r"(?:<li><b>|; )([\w-]+)(?:</b>)?: \d", folded)
    assert sorted(told) == sorted({*ARMS} - {arm}), "those of one verdict and reason share a line"


def test_verdicts_and_controls_stand_beside_gains(tmp_path):
    page = render(run(tmp_path, synthetic(40))).read_text()
    summary = json.loads((tmp_path / "summary.json").read_text())
    row = next(row for row in summary["rows"] if row["arm"] == "ngd")
    assert row["controls"] == ["ngd-random-neighbours"]
    assert f">{row['verdict']}</b> <small><br>{escape(row['because'])}" in page
    section = page[page.index('<h2 id="controls">') :]
    table = section[: section.index("</table>")]
    assert re.findall(r'<th scope="row">(.*?)</th>.*?"Control">(.*?)</td>', table) == [("ngd", "ngd-random-neighbours")]
    without = synthetic(6, arms=("base", "ngd"))
    assert '<h2 id="controls">' not in render(run(tmp_path / "none", without)).read_text()


def test_what_is_spent_once_is_shared_by_all_questions(tmp_path):
    records = [r | {"once": 450.0 * (r["arm"] != "base")} for r in synthetic(6)]
    page = render(run(tmp_path / "said", records)).read_text()
    assert "Cost by the number of questions" in page
    assert "<br>once 450</small>" in page
    assert "Cost by the number of questions" not in render(run(tmp_path / "unknown", synthetic(6))).read_text()
    cost = RowCost(prefill=1, embedding=0, attribution=0, optimisation=0.5, total=1.5, once=450)
    assert [cost_over(cost, n) for n in (1, 100, 1_000_000)] == pytest.approx([451.5, 6, 1.50045])


def test_chance_base_and_references_head_each_table(tmp_path):
    records = synthetic(6, ("arc", "piqa"), ("base", "ngd"))
    datasets = [
        {"name": "arc", "questions": "arc", "references": ["sciq"]},
        {"name": "piqa", "questions": "piqa", "references": ["piqa"]},
    ]
    folder = run(tmp_path, records)
    summary = summarize(records, config={"datasets": datasets}, seed=0)
    write_text(folder / "summary.json", json.dumps(summary))
    base = {row["dataset"]: row["accuracy"] for row in summary["rows"] if row["arm"] == "base"}
    found = re.findall(r"<caption>(.*?)</caption>", render(folder).read_text())
    references = {"all": "other sets and same set", "arc": "sciq", "piqa": "piqa (same set)"}
    for caption, (name, said) in zip(found, references.items(), strict=True):
        told = f"Chance 25.0 %, base {base[name]:.1f} %. References: {said}. Asked as cloze by tokens."
        assert caption == told


class TestPublished:
    """Figures of the paper beside a run's own: only where they are asked for, and named as what they are."""

    CONFIG: ClassVar = {
        "published": "OLMoE",
        "datasets": [{"name": "easy", "questions": "arc_easy:test"}, {"name": "mine", "questions": "facts.jsonl"}],
    }

    def drawn(self, tmp_path, config):
        records = synthetic(6, ("easy", "mine"), ("base", "ngd", "ngd-random-neighbours"))
        folder = run(tmp_path, records)
        write_text(folder / "summary.json", json.dumps(summarize(records, config=config, seed=0)))
        return render(folder).read_text()

    def test_of_benchmarks_that_the_paper_reports(self, tmp_path):
        html = self.drawn(tmp_path, self.CONFIG)
        assert html.count("<h3>Beside published figures: easy</h3>") == 1
        assert "Beside published figures: mine" not in html
        assert "published, OLMoE 7B" in html
        assert "arXiv 2504.07964" in html

    def test_not_unless_asked_for(self, tmp_path):
        assert "published" not in self.drawn(tmp_path, {k: v for k, v in self.CONFIG.items() if k != "published"})

    def test_are_those_of_the_paper(self):
        assert published_figures.accuracy("OLMoE", "arc_easy")["ngd"] == 87.4
        assert published_figures.accuracy("DeepSeekMoE", "winogrande")["none"] == 70.1
        assert published_figures.accuracy("OLMoE", "openbookqa") == {}
        for model, means in {"OLMoE": (69.9, 79.2), "DeepSeekMoE": (66.4, 74.4)}.items():
            rows = [
                published_figures.accuracy(model, b) for b in ("mmlu", "hellaswag", "arc_challenge", "arc_easy", "piqa")
            ]
            rows.append(published_figures.accuracy(model, "winogrande"))
            for method, mean in zip(("none", "ngd"), means, strict=True):
                assert sum(row[method] for row in rows) / 6 == pytest.approx(mean, abs=0.06), "as it says itself"

    def test_a_model_that_the_paper_does_not_report(self):
        with pytest.raises(SettingError, match=r"published: expected a model that the paper reports, got 'OLMo'; did"):
            ComparisonConfig(published="OLMo")


def test_a_question_cannot_leave_its_script(folder):
    record = synthetic(1)[0]
    text = "</script><script>alert(1)</script><!-- & <b>'\"\u2028"
    question = Question(id=record["id"], question=text, choices=("</script>", "b", "c", "d"), answer=record["answer"])
    html = render(folder, {("demo", question.id): question}).read_text()
    assert "<script>alert" not in html
    assert "<b>'" not in html
    assert html.count("</script>") == 3
    assert Page(html).data["questions"][0]["text"] == text


def test_numbers_come_back_from_the_page(folder):
    record = next(r for r in synthetic(12) if r["arm"] == "ngd")
    data = Page(render(folder).read_text()).data
    answer = next(a for a in data["answers"] if data["arms"][a["arm"]] == "ngd")
    assert data["questions"][answer["q"]]["id"] == record["id"]
    own, new = answer["pathway"]["25"]
    for flat, kept in ((data["own"][own], record["pathway"]["25"]["own"]), (new, record["pathway"]["25"]["new"])):
        drawn = {str(e): w / data["scale"] for e, w in zip(flat[::2], flat[1::2], strict=True)}
        assert drawn == pytest.approx(kept, abs=1e-4)
    assert sum(answer["after"]) == pytest.approx(data["scale"], abs=5)
    assert data["layers"][answer["layers"]] == record["layers"]
    assert data["before"][answer["before"]][0] == record["base_choice"]


def test_texts_of_neighbours_only_where_used(folder):
    used = next(n["id"] for r in synthetic(12) for n in r["neighbours"])
    near = Question(id="", question="Near?", choices=("yes", "no"), answer=1)
    references = dict.fromkeys((("demo", used), ("demo", "unused"), ("another", used)), near)
    assert Page(render(folder, {}, references).read_text()).data["references"] == {"demo": {used: ["Near?", "no"]}}


def test_figures_take_the_font_of_the_page(folder):
    html = render(folder).read_text()
    assert html.count("font-family: var(--sans)") > 50
    assert "'DejaVu Sans'" not in html


def test_scores_of_the_layers_that_were_chosen(folder):
    record = next(r for r in synthetic(12) if r["arm"] == "ngd-attribution")
    data = Page(render(folder).read_text()).data
    answer = next(a for a in data["answers"] if data["arms"][a["arm"]] == "ngd-attribution")
    chosen = {str(layer): record["layer_scores"].get(str(layer)) for layer in record["layers"] if layer >= 16}
    assert answer["layerScores"] == chosen
    assert chosen


def test_scores_of_layers_have_intervals_over_questions_folded(folder, monkeypatch):
    drawn = []
    monkeypatch.setattr(drawing, "svg", lambda figure, label: drawn.append((label, figure)) or "<svg></svg>")
    html = render(folder).read_text()
    (figure,) = [figure for label, figure in drawn if label == "Score of each decoder layer"]
    (axes,) = figure.axes
    assert axes.get_title(loc="left") == "ngd-attribution"
    scores = [r["layer_scores"] for r in synthetic(12) if r["arm"] == "ngd-attribution"]
    bars = {round(bar.get_x() + bar.get_width() / 2): bar.get_height() for bar in axes.patches}
    lines = {int(line.get_xdata()[0]): line.get_ydata() for line in axes.lines[1:]}
    assert list(bars) == list(lines) == list(range(16, 30))
    for layer, mean in bars.items():
        own = [score[str(layer)] for score in scores]
        assert mean == pytest.approx(sum(own) / 12, abs=1e-5)
        found = stats.ttest_1samp(own, 0).confidence_interval()
        assert tuple(lines[layer]) == pytest.approx((found.low, found.high), abs=1e-5)
    folded = html[html.index('<details class="card folded">') :]
    assert folded.index("Scores of layers") < folded.index("<svg") < folded.index("</details>")
    assert html.index('class="card opening"') < html.index("Scores of layers")


def test_no_scores_where_no_selector_gives_any(tmp_path):
    records = [r | {"layer_scores": {}} for r in synthetic(4)]
    assert "Scores of layers" not in render(run(tmp_path, records)).read_text()


def test_refuses_the_text_of_another_question(folder):
    id_ = synthetic(1)[0]["id"]
    with pytest.raises(DataError, match="2 and 0"):
        render(folder, {("demo", id_): Question(id=id_, question="?", choices=("a", "b"), answer=0)})


def test_several_data_sets_lead_with_their_mean(tmp_path):
    html = render(run(tmp_path, synthetic(6, ("arc", "piqa"), ("base", "ngd")))).read_text()
    assert html.index(">All: mean over data sets<") < html.index(">arc<")
    assert Page(html).data["datasets"] == ["arc", "piqa"]


def test_needs_a_summary(tmp_path):
    Records(tmp_path, AnswerRecord).append(*made(synthetic(1)[:1]))
    with pytest.raises(DataError, match=r"summary\.json"):
        render(tmp_path)


@pytest.mark.slow
def test_two_thousand_questions_of_seven_arms_stay_below_five_megabytes(tmp_path):
    records = synthetic(1000, ("arc", "piqa"))
    texts = {
        (r["dataset"], r["id"]): "What can float on water, and why does it not sink like a stone? " * 3 for r in records
    }
    gold = {(r["dataset"], r["id"]): r["answer"] for r in records}
    asked = {k: Question(k[1], text, ("a stone", "a boat", "iron", "sand"), gold[k]) for k, text in texts.items()}
    path = render(run(tmp_path, records), asked)
    data = Page(path.read_text()).data
    assert len(data["questions"]) == 2000
    assert len(data["answers"]) == 2000 * len(ARMS)
    assert path.stat().st_size < 5e6
    # Pathways of some: of all arms or of none, and first where an arm changed the answer.
    details = {}
    for answer in data["answers"]:
        details.setdefault(answer["q"], []).append(answer)
    kept = {q for q, each in details.items() if each[0]["detail"] is not None}
    assert 50 < len(kept) < 1000
    assert all(len({a["detail"] is None for a in each}) == 1 for each in details.values())
    assert all(len({a["choice"] for a in details[q]}) > 1 for q in kept)
    assert {data["questions"][q]["set"] for q in kept} == {"arc", "piqa"}


def test_a_study_of_selection_shows_layers_questions_and_kinds(tmp_path):
    records = synthetic(30)
    for record in records:
        if record["arm"].startswith("ngd") and record["arm"] != "ngd-random-neighbours":
            count = 1 if record["arm"] == "ngd" else 3
            record["setting"] = {"optimizer": {"name": "ngd"}, "selector": {"name": "fixed", "n": count}}
            record["layers"], record["strength"] = list(range(16, 16 + count)), record["scores"][0]
        elif record["arm"] == "kernel-regression":
            record["setting"] = {"optimizer": {"name": "ngd"}, "selector": {"name": "fixed", "layers": "all", "n": 9}}
            record["layers"] = list(range(16, 28))
    page = render(run(tmp_path, records, headline="ngd")).read_text()
    assert "Number of layers" in page
    assert "Some questions alone" in page
    assert "Layers that ngd chose" in page
    assert "analogy (10)" in page.replace("demo analogy", "analogy")


def test_long_runs_show_the_first_questions(tmp_path, monkeypatch):
    monkeypatch.setattr("c3po_adaptive.report.question_payload.ANSWERS", 7 * len(ARMS) + 1)
    page = render(run(tmp_path, synthetic(30))).read_text()
    data = json.loads(re.search(r'<script id="data" type="application/json">(.*?)</script>', page, re.S).group(1))
    assert len(data["questions"]) == 7
    assert len(data["answers"]) == 7 * len(ARMS)


class TestMadeBy:
    def test_command_and_model_stand_at_the_top(self, tmp_path):
        token = COMMAND.set("c3po demo --out 'a <b>'")
        claim(tmp_path, {}, "OLMoE")
        COMMAND.reset(token)
        html = render(run(tmp_path, synthetic(3))).read_text()
        top = re.sub(r"</?span>", "", html[html.index("<header") : html.index("</header")])
        assert "<dd>OLMoE</dd>" in top
        assert "c3po demo --out &#39;a &lt;b&gt;&#39;" in top

    def test_from_python(self, tmp_path):
        claim(tmp_path, {}, "OLMoE")
        assert "made from Python" in render(run(tmp_path, synthetic(3))).read_text()


class TestExperts:
    """How often each expert of each layer was changed, raised and lowered."""

    def test_counts(self, folder):
        records = [r for r in synthetic(12) if r["arm"] == "ngd"]
        use = Page(render(folder).read_text()).data["uses"]["ngd"]
        place = use["layers"].index(25)
        for expert in range(64):
            moved = [r for r in records if expert in r["experts"]["25"]]
            own, new = ([r["pathway"]["25"][side].get(str(expert), 0) for r in moved] for side in ("own", "new"))
            assert use["changed"][place][expert] == len(moved)
            assert use["raised"][place][expert] == sum(b > a for a, b in zip(own, new, strict=True))

    def test_records_say_what_rose_where_no_pathway_is_kept(self, tmp_path):
        records = synthetic(4)
        for record in records:
            record["raised"], record["pathway"] = {k: v[:1] for k, v in record["experts"].items()}, {}
        use = Page(render(run(tmp_path, records)).read_text()).data["uses"]["oracle"]
        assert sum(map(sum, use["raised"])) == 4 * 5

    def test_what_did_not_rise_fell(self):
        (record,) = (r for r in synthetic(1) if r["arm"] == "ngd")
        changed = {"layers": [25], "experts": {"25": [1, 2, 3, 4, 5]}, "pathway": {}, "layer_scores": {}}
        (use,) = expert_use(made([record | changed | {"raised": {"25": [2]}}])).values()
        assert use["raised"] == [[0, 0, 1, 0, 0, 0]]
        assert use["lowered"] == [[0, 1, 0, 1, 1, 1]]


def test_what_is_drawn_at_random_is_named_a_control(tmp_path):
    records = synthetic(6)
    for record in records:
        if record["arm"] == "mode-finding":
            record["setting"] = {"varies": ["random layers", "labels drawn at random"]}
    html = render(run(tmp_path, records, headline="ngd", compare=[("ngd", "mode-finding")])).read_text()
    assert "It is a control, with random layers and labels drawn at random." in html
    assert 'class="dot control"></span>mode-finding <small>control<' in html
    assert "Of ngd, beside the control mode-finding" in html


def test_no_gain_without_its_interval(folder):
    """In tables, and as text in figures."""
    html = render(folder).read_text()
    cells = re.findall(r'<td data-name="Gain over base[^>]*>(.*?)</td>', html, re.S)
    assert len(cells) == len(ARMS)
    assert all("–" in cell or re.search(r"\[[−+][\d.]+, [−+][\d.]+\]", cell) for cell in cells)
    assert len(re.findall(r">[+−][\d.]+ \[[^<]+\]</text>", html)) == len(ARMS) - 1
    assert not re.findall(r">\+[\d.]+</text>", html)


def test_a_primary_comparison_is_told_as_one(tmp_path):
    """In its cell there is no correction, as none was made; the others have theirs."""
    named = [("ngd", "base", "question")]
    html = render(run(tmp_path, synthetic(12), compare=[("ngd", "base")], primary=named)).read_text()
    assert html.count("· primary, tested alone</small>") == 1
    assert "· Holm " in html
    assert re.search(r"<b>ngd beside base</b>: .* Primary: tested alone, p = [\d.e-]+\.</li>", html)
