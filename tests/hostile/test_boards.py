"""Names and pages that would break a leader board, or an export: refused, or shown as they are."""

import re
from html import unescape
from html.parser import HTMLParser

import pytest
import yaml
from doors import is_refused, untouched
from study.test_leader_board import records

from c3po_adaptive.errors import SettingError
from c3po_adaptive.records.parquet import write_parquet
from c3po_adaptive.report.leader_board_page import blocks, filled, page, picture
from c3po_adaptive.study.leader_board import board_summary, read_board, stale_pages, write_board

BEGIN, END = "<!-- board overall -->", "<!-- /board -->"
TEXT = "What a person wrote.\n"
PAGE = "".join(f"{TEXT}<!-- board {name} -->\n{END}\n" for name in ("overall", "gains", "controls", "matrix"))

BROKEN = {
    "open to the end of the page": (f"{BEGIN}\n{TEXT}", 1),
    "open, and another closes": (f"{TEXT}{BEGIN}\nold\n{TEXT}{BEGIN}\nold\n{END}\n", 5),
    "nested": (f"{BEGIN}\n{BEGIN}\n{END}\n{END}\n", 2),
    "an end without a begin": (f"{TEXT}{END}\n{BEGIN}\n{END}\n", 2),
    "an end too many": (f"{BEGIN}\n{END}\n{TEXT}{END}\n", 4),
    "a begin without a name": (f"{BEGIN}\n{END}\n<!-- board -->\n{TEXT}{END}\n", 3),
    "a begin misspelt": (f"{TEXT}<!--board overall-->\n{END}\n{BEGIN}\n{END}\n", 2),
    "an end misspelt": (f"{BEGIN}\n{TEXT}<!-- /board-->\n{BEGIN}\n{END}\n", 3),
    "an unknown block": (f"{BEGIN}\n{END}\n{TEXT}<!-- board overal -->\n{END}\n", 4),
    "an unknown block in lines of Windows": (f"{BEGIN}\r\n{END}\r\n{TEXT}<!-- board overal -->\r\n{END}\r\n", 4),
}

HOSTILE = {
    "a script": "<script>alert(1)</script>",
    "a marker": END,
    "a marker on a line of its own": f"a\n{END}\n{BEGIN}\nb",
    "a line more": "a\n\n# b",
    "pipes": "a | b \\| c",
    "backticks": "a ` b `` c ```",
    "emphasis and links": "*a* _b_ [c](javascript:alert(1)) ![d](e) ~~f~~",
    "entities": "a &#124; &lt;b&gt; &amp;",
    "quotes": "\"a' onclick='b' x=\"",
    "half a page": "--> <!-- <div> </table>",
}


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    """A board of harmless names, its folder and its summary."""
    folder = planted(tmp_path_factory.mktemp("small"), "method", "one")
    return read_board(folder / "board.yaml"), folder, made(folder)


@pytest.mark.parametrize("name", BROKEN)
def test_a_page_of_broken_blocks_is_refused_with_its_line(name, small):
    text, line = BROKEN[name]
    board, folder, summary = small
    (folder / "README.md").write_bytes(text.encode())
    with untouched(folder), pytest.raises(SettingError, match=rf"README\.md, line {line}: expected .*got "):
        list(write_board(board, folder, summary))


def test_what_a_person_wrote_stays_byte_for_byte(small):
    board, folder, summary = small
    before = f"{TEXT}A mark `{BEGIN}` inside a line is none; nor is\r\n<!-- boards -->.\r\n"
    between, after = "\u2028 \x0c\r\n", "the end, and no line"
    text = f"{before}  {BEGIN}\nold\n{END} \r\n{between}{BEGIN}\r\n{END}\n{after}"
    (folder / "README.md").write_bytes(text.encode())
    list(write_board(board, folder, summary))
    found = (folder / "README.md").read_bytes().decode()
    assert found.startswith(before) and between in found and found.endswith(after)
    assert "old" not in found and found.count("| arm |") == 2
    assert not stale_pages(board, folder, summary)


def test_a_page_that_is_a_link_is_refused_before_anything_is_written(tmp_path):
    folder = planted(tmp_path, "method", "one")
    (folder / "kept.md").write_text(PAGE)
    (folder / "README.md").symlink_to("kept.md")
    board, summary, before = read_board(folder / "board.yaml"), made(folder), {*folder.rglob("*")}
    with untouched(folder), pytest.raises(SettingError, match=r"README\.md, got a link; name what it leads to"):
        list(write_board(board, folder, summary))
    assert {*folder.rglob("*")} == before


FENCES = {
    "backticks": ("```", "```"),
    "tildes, with a language": ("~~~ markdown", "~~~"),
    "closed by a longer one": ("```md", "`````"),
    "not closed by a shorter or another one": ("````\n```\n~~~~", "````"),
    "not closed by one with a language": ("```\n```md", "```"),
    "in lines of Windows": ("```\r", "```\r"),
    "in an item of a list": ("1. - ```", "     ```"),
}


@pytest.mark.parametrize("name", FENCES)
def test_examples_inside_fences_stay(name, small):
    board, folder, summary = small
    opened, closed = FENCES[name]
    example = f"{TEXT}{opened}\n{BEGIN}\nhere it would stand\n{END}\n{BEGIN}\n<!-- board -->\n{closed}\n{TEXT}"
    (folder / "README.md").write_bytes(f"{example}{BEGIN}\nold\n{END}\n{example}".encode())
    list(write_board(board, folder, summary))
    found = (folder / "README.md").read_bytes().decode()
    assert found.startswith(example) and found.endswith(example)
    assert "old" not in found and found.count("| arm |") == 1


def test_code_in_a_line_opens_no_fence(small):
    board, folder, summary = small
    (folder / "README.md").write_text(f"```one``` line\n{BEGIN}\nold\n{END}\n")
    list(write_board(board, folder, summary))
    assert "old" not in (folder / "README.md").read_text()


def planted(folder, arm, dataset):
    """A board of one data set and of an arm of these names."""
    arms = {"base": {"optimizer": "none"}, arm: {"optimizer": {"name": "ngd", "lr": 0.1}}}
    asked = [{"name": dataset, "questions": "demo", "references": [arm]}]
    (folder / "run.yaml").write_text(yaml.safe_dump({"datasets": asked, "arms": arms}))
    own = [r.model_copy(update={"arm": {"method": arm}.get(r.arm, r.arm)}) for r in records(dataset, 0.3, n=12)]
    write_parquet([r for r in own if r.arm in arms], folder / "a (b)|c.parquet")
    runs = [{"config": "run.yaml", "records": ["a*.parquet"]}]
    written = {"title": arm, "runs": runs, "pages": ["README.md"]}
    (folder / "board.yaml").write_text(yaml.safe_dump(written))
    return folder


def made(folder):
    return board_summary(read_board(folder / "board.yaml"), folder)


DRAWN = ("g", "text", "tspan", "path", "use", "defs", "clippath", "rect")
"""Of pictures: a name of two lines is two texts, and where names are long lines are others."""


class Elements(HTMLParser):
    """What a page is made of, but for the text."""

    def __init__(self):
        super().__init__()
        self.found = []

    def handle_starttag(self, tag, attrs):
        self.found.append((tag, [name for name, _ in attrs]))

    def handle_comment(self, data):
        self.found.append(("comment", data))


def elements(text):
    parser = Elements()
    parser.feed(text)
    return parser.found


@pytest.fixture(scope="module")
def harmless(small):
    return drawn(*small)


def drawn(board, folder, summary):
    """Markdown, which is the same when it is written again, and page and picture."""
    texts = []
    (folder / "README.md").write_text(PAGE)
    for _ in range(2):
        list(write_board(board, folder, summary))
        texts.append((folder / "README.md").read_text())
    assert texts[0] == texts[1]
    return texts[0], page(summary, "results"), picture(summary)


@pytest.mark.parametrize("name", HOSTILE)
@pytest.mark.parametrize("of", ["arm", "dataset"])
def test_names_are_shown_as_they_are(name, of, tmp_path, harmless):
    """In tables of as many cells, and in pages of the same elements."""
    folder = planted(tmp_path, **{"arm": "method", "dataset": "one"} | {of: HOSTILE[name]})
    found = drawn(read_board(folder / "board.yaml"), folder, made(folder))
    assert [cells(line) for line in found[0].split("\n")] == [cells(line) for line in harmless[0].split("\n")]
    inside, usual = (elements(re.sub("`[^`\n]+`", "", text)) for text in (found[0], harmless[0]))
    assert [e for e in inside if e[0] != "code"] == usual
    for text, other in zip(found[1:], harmless[1:], strict=True):
        assert [e for e in elements(text) if e[0] not in DRAWN] == [e for e in elements(other) if e[0] not in DRAWN]
    for text in found[:2]:
        assert " ".join(HOSTILE[name].split()) in " ".join(unescape(text).split())


def cells(line):
    """Of a line of a table, or 0: bars that no backslash stands before."""
    return len(re.findall(r"(?<!\\)\|", line)) if line.startswith("|") else 0


def test_harmless_names_stand_as_they_are(tmp_path):
    (tmp_path / "x").mkdir()
    made_of = blocks(made(planted(tmp_path / "x", "my arm, 2 (of_3) — é/ü: +1", "arc_easy.v2")), ".")
    assert "| `my arm, 2 (of_3) — é/ü: +1` |" in made_of["overall"]([])
    assert "| arc_easy.v2<br>" in made_of["gains"]([])
    assert "[records](a%20%28b%29%7Cc.parquet)" in made_of["gains"]([]), "a path is one link"


@pytest.mark.parametrize("text", ["", "<!-- board -->", f"{END}\n{END}", f"{BEGIN}"])
def test_pages_without_a_whole_block(text):
    is_refused(lambda: filled(text, {"overall": lambda arms: "\n"}, "README.md"))
