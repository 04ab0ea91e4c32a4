"""Committed results of earlier forms, written anew in the form of now.

    python studies/migrate.py studies

Names are those of now, and an arm's setting says what it is: whose control (``control_of``: arms that are alike in all
but one thing that it draws at random), what it ``varies``, what becomes of pathways. Before, that was found out anew
from settings each time; the rules of then are here, and nowhere else.
"""

from __future__ import annotations

import json
import sys
from collections import defaultdict
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from c3po_adaptive.records.parquet import read_parquet, write_parquet
from c3po_adaptive.study.leader_board import read_board
from c3po_adaptive.study.study_config import read_yaml

NAMES = {"amortised-ngd": "amortized-ngd", "amortised": "amortized"}
KEYS = {"target": "loss", "practice": "training", "candidates": "within_last", "parametrisation": "parametrization"}
OF = {"target": "of"}  # within a strategy
CALIBRATED = ("length-exponent", "surface-logit", "pmi", "contextual")
POSITIVE = ("lora", "in-context")
CHANCE = (
    ("optimizer", "name", "random-change", "changes in random directions"),
    ("kernel", "shuffled", True, "weights learned from others' gradients"),
    ("retriever", "name", "random", "random neighbours"),
    ("retriever", "shuffled", True, "teachers learned from others' gradients"),
    ("selector", "name", "random", "random layers"),
    ("selector", "reward", "random", "rewards drawn at random"),
)
ROLES = ("answerer", "optimizer", "kernel", "retriever", "selector")
SAID = ("control_of", "varies", "changes", "calibrates", "positive")

Setting = Mapping[str, Any]


def now(setting: Setting) -> dict[str, Any]:
    """A setting with the names of now, and what the arm says of itself but ``control_of``."""
    plain = {KEYS.get(key, key): _strategy(value) if key in ROLES else value for key, value in setting.items()}
    plain = {key: value for key, value in plain.items() if key not in SAID[1:]}
    found = {
        "varies": _varies(plain),
        "changes": _changes(plain),
        "calibrates": _name(plain, "answerer") in CALIBRATED,
        "positive": _name(plain, "answerer") in POSITIVE,
    }
    usual = {"varies": [], "changes": "each", "calibrates": False, "positive": False}
    return plain | {key: value for key, value in found.items() if value != usual[key]}


def _strategy(value: Any) -> Any:
    if isinstance(value, str):
        return {"name": NAMES.get(value, value)}
    if isinstance(value, list):
        return [_strategy(part) if isinstance(part, Mapping) else part for part in value]
    if not isinstance(value, Mapping):
        return value
    named = {(OF | KEYS).get(key, key) if key != "target" else "of": part for key, part in value.items()}
    return {
        key: NAMES.get(part, part) if key == "name" else _strategy(part) if isinstance(part, Mapping | list) else part
        for key, part in named.items()
    }


def _varies(setting: Setting) -> list[str]:
    said = [words for role, key, value, words in CHANCE if value in _values(setting.get(role), key)]
    return said + ["labels drawn at random"] * (setting.get("labels") == "shuffled")


def _changes(setting: Setting) -> str:
    name = _name(setting, "answerer")
    of = (setting.get("answerer") or {}).get("of")
    if name is not None and (name not in CALIBRATED or (of or {"name": "remix"}).get("name") != "remix"):
        return "each"
    by = setting.get("optimizer") or {"name": "none"}
    if by["name"] == "none":
        return "core" if by.get("start") == "core" else "nothing"
    return "same" if by["name"] == "constant" else "each"


def control_of(settings: Mapping[str, Setting]) -> dict[str, list[str]]:
    """Of each arm those that it is a control of: alike in all else, settings of now."""
    return {
        name: [arm for arm, own in settings.items() if arm != name and _has(own) and _twin(own, other)]
        for name, other in settings.items()
    }


def _has(own: Setting) -> bool:
    """Whether an arm has controls at all."""
    calibrates = own.get("calibrates", False)
    changes = own.get("changes", "each")
    return not own.get("varies") and not (changes in ("core", "nothing") and not calibrates)


def _twin(own: Setting, other: Setting) -> bool:
    apart = {*SAID, "seed"}
    differing = {key for key in own.keys() | other.keys() if own.get(key) != other.get(key)} - apart
    if len(differing) != 1 or len(other.get("varies", [])) != 1:
        return False
    (role,) = differing
    if role == "optimizer":
        return bool((other[role] or {}).get("of") == own.get(role))
    if role in ("retriever", "selector") and _name(other, role) == "random":
        return _as_many(own, other, role)
    learned = [key for of, key, _, _ in CHANCE if of == role and key != "name"]
    return role == "labels" or any(_without(own[role], key) == _without(other[role], key) for key in learned)


def _as_many(own: Setting, other: Setting, role: str) -> bool:
    mine, theirs = own.get(role) or {}, other.get(role) or {}
    if role == "retriever":
        return mine.get("k") in (None, theirs.get("k"))
    layers = mine.get("layers")
    number = len(layers) if isinstance(layers, list) else mine.get("n")
    return layers != "all" and number in (None, theirs.get("n")) and mine.get("experts") == theirs.get("experts")


def _name(setting: Setting, role: str) -> str | None:
    return (setting.get(role) or {}).get("name")


def _values(spec: Any, key: str) -> list[Any]:
    if not isinstance(spec, Mapping):
        return []
    if key == "name":
        return [spec.get(key)]
    parts = [part for value in spec.values() for part in (value if isinstance(value, list) else [value])]
    inside = [value for part in parts if isinstance(part, Mapping) for value in _values(part, key)]
    return [spec[key], *inside] if key in spec else inside


def _without(spec: Any, key: str) -> Any:
    if isinstance(spec, list):
        return [_without(part, key) for part in spec]
    if not isinstance(spec, Mapping):
        return spec
    return {name: _without(value, key) for name, value in spec.items() if name != key}


def words(path: Path) -> Iterator[tuple[str, str, dict[str, Any]]]:
    """Of each arm on each data set of a Parquet file its long word, with a setting of now."""
    table = pq.read_table(path, columns=["dataset", "arm", "of_arm"])
    for dataset, arm, word in dict.fromkeys(
        zip(*(table[name].to_pylist() for name in table.column_names), strict=True)
    ):
        said = json.loads(word)
        said = {key: value for key, value in said.items() if key not in ("optimizer", "selector")}
        yield dataset, arm, said | {"setting": now(said["setting"])}


def are_records(path: Path) -> bool:
    """Whether a Parquet file has a run's records; others are a study's own."""
    return "of_arm" in pq.read_schema(path).names


def together(root: Path) -> Iterator[list[Path]]:
    """Files whose arms stand in one table: each by itself, and those of a board."""
    for path in sorted(root.glob("*/results/**/*.parquet")):
        if are_records(path):
            yield [path]
    for path in sorted(root.glob("*/*.yaml")):
        if "runs" in read_yaml(path):
            board = read_board(path)
            yield sorted({file for run in board.runs for name in run.records for file in path.parent.glob(name)})


def controls_in(root: Path) -> dict[tuple[Path, str], list[str]]:
    """By file and arm: whose control it is in any table."""
    found: dict[tuple[Path, str], list[str]] = defaultdict(list)
    for files in together(root):
        settings: dict[str, dict[str, Setting]] = defaultdict(dict)
        where: dict[str, set[Path]] = defaultdict(set)
        for file in files:
            for dataset, arm, said in words(file):
                settings[dataset].setdefault(arm, said["setting"])
                where[arm].add(file)
        for arms in settings.values():
            for control, of in control_of(arms).items():
                for file in where[control]:
                    known = found[file, control]
                    known += [arm for arm in of if arm not in known]
    return found


def main(root: Path) -> None:
    """Write all of them anew."""
    controls = controls_in(root)
    for path in sorted({file for file, _ in controls}):
        made = {}
        for dataset, arm, said in words(path):
            said["setting"].pop("control_of", None)
            if of := controls[path, arm]:
                said["setting"]["control_of"] = of
            made[dataset, arm] = json.dumps(said, sort_keys=True)
        table = pq.read_table(path)
        pairs = zip(table["dataset"].to_pylist(), table["arm"].to_pylist(), strict=True)
        place = table.column_names.index("of_arm")
        table = table.set_column(place, "of_arm", pa.array([made[pair] for pair in pairs]))
        pq.write_table(table, path)
        write_parquet(read_parquet(path), path)
        print(path, path.stat().st_size)
    for path in sorted(root.glob("*/results/**/*.json")):
        summary = json.loads(path.read_text(encoding="utf-8"))
        if isinstance(summary, dict) and {"rows", "baseline"} <= summary.keys():
            path.write_text(_as_it_was(path, _summary(summary)), encoding="utf-8")


def _summary(summary: dict[str, Any]) -> dict[str, Any]:
    """With the rows of now."""
    for row in summary["rows"]:
        row |= {key: NAMES.get(row[key], row[key]) for key in ("optimizer", "selector")}
        row["setting"] = now(row["setting"])
    settings: dict[str, dict[str, Setting]] = defaultdict(dict)
    for row in summary["rows"]:
        settings[row["dataset"]][row["arm"]] = row["setting"]
    whose = {dataset: control_of(arms) for dataset, arms in settings.items()}
    rows = [_row(row, summary["baseline"], whose[row["dataset"]][row["arm"]]) for row in summary["rows"]]
    return {key: value for key, value in summary.items() if key != "control"} | {"rows": rows}


def _row(row: dict[str, Any], baseline: str, of: list[str]) -> dict[str, Any]:
    setting = row["setting"] | ({"control_of": of} if of else {})
    control = setting.get("varies") or (setting.get("changes") == "core" and not setting.get("calibrates"))
    role = "control" if control else "oracle" if row["needs_label"] else "method"
    head = {key: row[key] for key in ("dataset", "split", "arm")}
    return head | {"role": "base" if row["arm"] == baseline else role} | row | {"setting": setting}


def _as_it_was(path: Path, summary: dict[str, Any]) -> str:
    """JSON in the file's own layout: an entry a line, or indented."""
    if '\n "' in path.read_text(encoding="utf-8")[:40]:
        return json.dumps(summary, indent=1, ensure_ascii=False) + "\n"
    parts = []
    for key, value in summary.items():
        one, inside = json.dumps(value, ensure_ascii=False), isinstance(value, list) and value
        told = "[\n" + ",\n".join(json.dumps(part, ensure_ascii=False) for part in value) + "\n]" if inside else one
        parts.append(f"{json.dumps(key)}: {told}")
    return "{\n" + ",\n".join(parts) + "\n}\n"


if __name__ == "__main__":
    main(Path(sys.argv[1]))
