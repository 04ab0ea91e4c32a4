"""What policies learned, epoch by epoch, and whether it held. The run of the same file learned it, from references.

C3PO_DATA=FOLDER python studies/mixture/curves.py CONFIG.yaml ASKED.yaml OUT.json
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import opened

from c3po_adaptive.storage.files import write_text


def main(config: str, asked: str, out: str) -> None:
    worker = opened.worker_of(config, asked)
    found: dict[str, Any] = {}
    for name, arm in worker.config.arms.items():
        if not arm.name_of("selector").startswith("rl-"):
            continue
        selector = opened.optimizer(worker, name).remixer.strategies.selector
        if not isinstance(selector, opened.plugin("reinforced").Reinforced) or selector.learned is None:
            raise SystemExit(f"Expected arm {name} to have learned by reinforcement, got {selector}; leave it out.")
        curves = {part: [round(x, 4) for x in selector.learned[part].tolist()] for part in ("reward", "entropy")}
        found[name] = curves | {"beats": bool(selector.learned["beats"]), "taken": float(selector.learned["taken"])}
        print(name, found[name])
    write_text(Path(out), json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
