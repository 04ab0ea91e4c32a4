"""``python docs/_ext/write.py``: writes what pages say of the code into the pages, where the repository is read.

A page has it between ``<!-- written: NAME ARGUMENT -->`` and ``<!-- end -->``; ``tests/docs/test_written.py`` holds
that it is up to date.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

from bed import Bed
from benchmarks import Benchmarks
from command_line import CommandLine
from configuration import Configuration
from families import Aliases, Families
from names import Names
from results import Ratios, Results
from trace_format import TraceFormat

PAGES = Path(__file__).parents[1]
WRITTEN: dict[str, Any] = {
    "aliases": Aliases,
    "bed": Bed,
    "benchmarks": Benchmarks,
    "command-line": CommandLine,
    "configuration": Configuration,
    "families": Families,
    "names": Names,
    "ratios": Ratios,
    "results": Results,
    "trace-format": TraceFormat,
}
PART = re.compile(r"(<!-- written: ([\w-]+) ?(\S*) -->\n).*?(<!-- end -->\n)", re.DOTALL)


def page(text: str) -> str:
    """A page with each of its written parts as the code has it now."""

    def part(found: re.Match[str]) -> str:
        directive = WRITTEN[found[2]]
        body = cast(str, directive.text(SimpleNamespace(arguments=[found[3]] if found[3] else [])))
        return f"{found[1]}\n{body.strip()}\n\n{found[4]}"

    return PART.sub(part, text)


def outdated() -> dict[Path, str]:
    """What pages should hold, of those that do not."""
    texts = {path: path.read_text(encoding="utf-8") for path in sorted(PAGES.rglob("*.md"))}
    return {path: new for path, text in texts.items() if (new := page(text)) != text}


if __name__ == "__main__":
    for path, text in outdated().items():
        path.write_text(text, encoding="utf-8")
        sys.stdout.write(f"{path}\n")
