"""The commands of the core where no companion is installed, run in the current folder, which is to be empty."""

import importlib.metadata
import json
import sys
from importlib.metadata import EntryPoints
from pathlib import Path

OURS = ("c3po_adaptive",)


class Absent:
    """Finds no companion."""

    def find_spec(self, name, path=None, target=None):
        root = name.split(".")[0]
        if root.startswith("c3po_") and root not in OURS:
            raise ModuleNotFoundError(f"No module named {root!r}", name=root)
        return


_entry_points = importlib.metadata.entry_points


def entry_points(**of):
    """None of this package's groups, which companions are found by."""
    return EntryPoints() if of.get("group", "").startswith(OURS) else _entry_points(**of)


sys.meta_path.insert(0, Absent())
importlib.metadata.entry_points = entry_points

from typer.testing import CliRunner  # noqa: E402

from c3po_adaptive.cli import app  # noqa: E402
from c3po_adaptive.testing import write_tiny_checkpoint  # noqa: E402

STUDY = """
model: {model}
pathways: false
datasets:
- {{name: asked, questions: asked.jsonl, references: [learned.jsonl]}}
arms:
  base: {{optimizer: none, selector: {{name: fixed, n: 0}}}}
  ngd: {{optimizer: {{name: ngd, steps: 2}}, selector: {{name: attribution, n: 1, experts: 3}}}}
"""


def rows(name, count):
    for i in range(count):
        yield {"id": f"{name}{i}", "question": f"what is {name} {i}?", "choices": ["yes", "no"], "answer": i % 2}


def main(folder):
    model = str(write_tiny_checkpoint(folder / "model", "olmoe"))
    for name, count in (("asked", 4), ("learned", 12)):
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows(name, count)))
    (folder / "study.yaml").write_text(STUDY.format(model=model))
    how = ["--model", model, "--dtype", "float32"]
    asked = ["which floats?", "--choice", "a stone", "--choice", "a boat"]
    for command in (
        ["plugins", "list"],
        ["refset", "build", "learned.jsonl", "--out", "set", *how],
        ["answer", *asked, "--rule", "ban:3", *how],
        ["explain", *asked, "--refset", "set", "--set", "selector.n=1", *how],
        ["study", "plan", "study.yaml"],
        ["study", "run", "study.yaml", "--out", "run"],
        ["report", "run"],
    ):
        done = CliRunner().invoke(app, command)
        assert done.exit_code == 0, f"c3po {' '.join(command)}: {done.output}"
    for command, said in ((["audit", model], "plugins/audit"), (["trace", "show", "x"], "plugins/traces")):
        done = CliRunner().invoke(app, command)
        assert done.exit_code and said in done.output, f"c3po {' '.join(command)}: {done.output}"
    loaded = sorted(name for name in sys.modules if name.startswith("c3po_") and name.split(".")[0] not in OURS)
    assert not loaded, loaded


if __name__ == "__main__":
    main(Path.cwd())
