"""Values from elsewhere in Markdown: whatever they are, they stay in their cell, and are read as they were written."""

from html.parser import HTMLParser

import pytest
from c3po_hub.markdown import cell, code
from markdown_it import MarkdownIt

HOSTILE = {
    "a script": "<script>alert(1)</script>",
    "a comment": "<!-- a -->",
    "a comment on a line of its own": "a\n<!-- /b -->\nb",
    "a line more": "a\n\n# b",
    "pipes": "a | b \\| c",
    "backticks": "a ` b `` c ```",
    "emphasis and links": "*a* _b_ [c](javascript:alert(1)) ![d](e) ~~f~~",
    "entities": "a &#124; &lt;b&gt; &amp;",
    "quotes": "\"a' onclick='b' x=\"",
    "half a page": "--> <!-- <div> </table>",
}


class Read(HTMLParser):
    """What a page is made of, and its text."""

    def __init__(self):
        super().__init__()
        self.tags, self.text = [], ""

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, *attrs))

    def handle_comment(self, data):
        self.tags.append(("comment", data))

    def handle_data(self, data):
        self.text += data


def read(value, shown):
    """A table of one row whose first cell is the value, as a reader renders it."""
    page = Read()
    page.feed(
        MarkdownIt("commonmark", {"html": True}).enable("table").render(f"| {shown(value)} | next |\n| --- | --- |\n")
    )
    return page


@pytest.mark.parametrize("shown", [cell, code])
@pytest.mark.parametrize("name", HOSTILE)
def test_values_are_shown_as_they_are(name, shown):
    found, harmless = read(HOSTILE[name], shown), read("method", shown)
    assert found.tags == harmless.tags
    assert " ".join(HOSTILE[name].split()) in " ".join(found.text.split())


def test_harmless_values_stand_as_they_are():
    assert cell("arc_easy.v2") == "arc_easy.v2"
    assert code("my arm, 2 (of_3) — é/ü: +1") == "`my arm, 2 (of_3) — é/ü: +1`"
