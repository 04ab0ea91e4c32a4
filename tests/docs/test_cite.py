"""BibTeX says what CITATION.cff says, of the version that this is."""

import re
import tomllib
from pathlib import Path

import yaml

ROOT = Path(__file__).parents[2]


def test_bibtex_is_that_of_the_citation_file():
    cited = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    page = (ROOT / "docs" / "reference" / "cite.md").read_text()
    entries = [dict(re.findall(r"^  (\w+) = \{+(.*?)\}+,$", entry, re.MULTILINE)) for entry in page.split("@")[1:]]
    (paper,) = cited["references"]
    authors = " and ".join(f"{one['family-names']}, {one['given-names']}" for one in paper["authors"])
    ours = {"title": cited["title"], "author": cited["authors"][0]["name"], "version": cited["version"]}
    theirs = {"title": paper["title"], "author": authors, "year": str(paper["year"]), "url": paper["url"]}
    assert entries[0] == ours
    assert entries[1] | theirs == entries[1]
    assert cited["version"] == tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
