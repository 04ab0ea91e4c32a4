"""Text from the code: of directives when the pages are built, or written into the pages by ``write.py``."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from docutils import nodes
from sphinx.util.docutils import SphinxDirective


class Written(SphinxDirective):
    """A directive with a ``text`` of its own, in the markup of the page that it stands on."""

    has_content = False
    optional_arguments = 1
    final_argument_whitespace = True

    def text(self) -> str:
        """What stands in its place."""
        raise NotImplementedError

    def run(self) -> list[nodes.Node]:
        """The text, parsed; its headings are the page's."""
        return self.parse_text_to_nodes(self.text(), allow_section_headings=True)


def table(columns: Sequence[str], rows: Iterable[Sequence[str]], numbers: int = 0) -> str:
    """In Markdown; the last ``numbers`` columns stand to the right."""
    lines = [columns, ["---"] * (len(columns) - numbers) + ["---:"] * numbers, *rows]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines) + "\n"
