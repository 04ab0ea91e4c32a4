"""What stands in pages from the code is what the code says now."""

import json
import re
import subprocess
import sys
from importlib.util import find_spec

import pytest
from docs.blocks import PAGES, ROOT

EXTENSIONS = ROOT / "docs" / "_ext"
PRINT = "import json, write; print(json.dumps([str(path) for path in write.outdated()]))"


@pytest.mark.skipif(find_spec("sphinx") is None, reason="needs sphinx: pip install 'c3po_adaptive[docs]'")
def test_pages_are_up_to_date():
    done = subprocess.run([sys.executable, "-c", PRINT], cwd=EXTENSIONS, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout.splitlines()[-1]) == [], "run python docs/_ext/write.py"


def test_reference_pages_can_be_read_without_building_them():
    """Each page of the reference in Markdown holds its text itself, and leaves nothing to a directive."""
    pages = [page for page in PAGES if page.parent.name == "reference"]
    assert {page.stem for page in pages} >= {"names", "command_line", "configuration", "models", "results", "bed"}
    for page in pages:
        text = page.read_text()
        assert not re.search(r"^```\{", text, re.MULTILINE), page
        for _, body in re.findall(r"<!-- written: ([^>]+) -->(.*?)<!-- end -->", text, re.DOTALL):
            assert len(body) > 200, page


def test_all_names_are_there():
    import c3po_adaptive
    from c3po_adaptive import default_registry

    text = (ROOT / "docs" / "reference" / "names.md").read_text()
    shown = set(re.findall(r"^\| `([^`]+)` \|", text, re.MULTILINE))
    assert shown >= {*c3po_adaptive.__all__}
    registry = default_registry()
    assert shown >= {entry.name for entry in registry.table() if entry.plugin not in registry.files}, "companions', too"
