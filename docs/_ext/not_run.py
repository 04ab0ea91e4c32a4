"""``<!-- not run: REASON -->`` before a block: tests leave it out, and readers are told why."""

from __future__ import annotations

import re

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.transforms import SphinxTransform

MARK = re.compile(r"<!-- not run: (.+?) -->")


class _Shown(SphinxTransform):
    default_priority = 500

    def apply(self) -> None:
        for node in list(self.document.findall(nodes.raw)):
            if found := MARK.fullmatch(node.astext().strip()):
                node.replace_self(nodes.paragraph("", f"Not run by this page's test: {found[1]}.", classes=["not-run"]))


def setup(app: Sphinx) -> dict[str, bool]:
    """Found by Sphinx."""
    app.add_transform(_Shown)
    return {"parallel_read_safe": True}
