"""The page on OLMoE shows the paper's figures as they are kept, each beside the arm that stands for it."""

import re

import yaml
from docs.blocks import ROOT

from c3po_adaptive.report.published_figures import accuracy

PAPER = ROOT / "studies" / "paper"
SIX = ("mmlu", "hellaswag", "arc_challenge", "arc_easy", "piqa", "winogrande")


def test_each_row_is_an_arm_of_the_command():
    page = (ROOT / "docs" / "howto" / "olmoe.md").read_text()
    rows = dict(re.findall(r"^\| [\w ]+ \| `([\w-]+)` \| ([\d. |]+) \|$", page, re.MULTILINE))
    arms = yaml.safe_load((PAPER / "config.yaml").read_text())["arms"]
    assert list(rows) == ["base", "mode-finding", "kernel-regression", "ngd", "oracle"]
    for arm, cells in rows.items():
        method = (arms[arm] or {}).get("optimizer", "ngd")
        assert [float(cell) for cell in cells.split("|")] == [accuracy("OLMoE", name)[method] for name in SIX]


def test_its_data_sets_are_those_of_the_configuration():
    page = (ROOT / "docs" / "howto" / "olmoe.md").read_text()
    asked = {data["name"] for data in yaml.safe_load((PAPER / "benchmarks.yaml").read_text())["datasets"]}
    named = re.findall(r"--dataset (\w+)", re.search(r'^SIX="(.*)"$', page, re.MULTILINE)[1])
    assert tuple(named) == SIX
    assert set(named) <= asked
