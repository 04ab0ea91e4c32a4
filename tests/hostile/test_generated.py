"""Whatever is generated: every door gives something, or an error of ours; nothing else comes out of it."""

import json
import tempfile
from collections.abc import Callable
from copy import deepcopy
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml
from hostile.doors import BASE, SMALL, passed, question
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from hypothesis.configuration import set_hypothesis_home_dir
from remixing.test_remixer import remixer
from report.test_report import synthetic
from routing.naive import shared_model
from routing.toys import reference_set

from c3po_adaptive import C3POError
from c3po_adaptive.analysis.summarize import summarize
from c3po_adaptive.records.answer import AnswerRecord
from c3po_adaptive.records.jsonl import Records, read_records
from c3po_adaptive.records.parquet import write_parquet
from c3po_adaptive.references.reference_set import ReferenceSet
from c3po_adaptive.registry import default_registry
from c3po_adaptive.storage.identity import digest, digest_of_file
from c3po_adaptive.storage.run_folder import claim, claimed_config
from c3po_adaptive.study.comparison import ComparisonConfig, ComparisonWorker
from c3po_adaptive.study.kinds import read_study
from c3po_adaptive.study.overrides import parsed
from c3po_adaptive.study.study_config import read_yaml
from c3po_adaptive.tasks.question_files import load_questions, read_question

set_hypothesis_home_dir(tempfile.gettempdir())  # even without a database it keeps some things

characters = st.text(st.characters(exclude_categories=()), max_size=8)
odd = st.sampled_from(["", " ", "\0", "\ud800", "\u202e", "\u2028", "1", "nan", "-1", "base", "../..", "x" * 300])
numbers = st.one_of(
    st.integers(-3, 99), st.integers(), st.sampled_from([2**63, 10**400]), st.floats(), st.sampled_from([0.0, -1.0])
)
plain = st.one_of(st.none(), st.booleans(), numbers, characters, odd)
values = st.recursive(
    plain,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(characters | odd, inner, max_size=3),
    max_leaves=6,
)
QUESTION = question("a") | {"subject": "s", "split": "test"}
LETTERED = {
    "id": "a",
    "question": {"stem": "Is it?", "choices": [{"label": "A", "text": "x"}, {"label": "B", "text": "y"}]},
    "answerKey": "A",
}
CONFIG = {
    "kind": "comparison",
    "model": "model",
    "seed": 0,
    "format": {"name": "cloze", "normalize": "tokens"},
    "datasets": [{"name": "t", "questions": "test.jsonl", "split": None, "limit": 4, "references": ["r.jsonl"]}],
    "arms": {
        "base": BASE,
        "ngd": {"selector": SMALL, "optimizer": {"name": "ngd", "lr": 0.1}, "retriever": {"name": "faiss-knn", "k": 3}},
        "none": {"optimizer": "kernel-regression", "kernel": {"name": "sum", "left": "gaussian", "right": "linear"}},
    },
    "headline": "ngd",
    "compare": [["ngd", "base"]],
    "batch_size": 8,
}
STUDIES = Path(__file__).parents[2] / "studies"


def places(value, path=()):
    """The path of every part of a JSON value."""
    found = [path]
    parts = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, part in parts:
        found += places(part, (*path, key))
    return found


def changed(draw, value):
    """The value with one part dropped, replaced, nested, doubled, or with one more beside it."""
    path = draw(st.sampled_from(places(value)))
    if not path:
        return draw(values) if draw(st.integers(0, 9)) == 0 else value
    value = deepcopy(value)
    holder = value
    for key in path[:-1]:
        holder = holder[key]
    part = holder[path[-1]]
    match draw(st.sampled_from(["drop", "replace", "replace", "nest", "double", "add"])):
        case "drop":
            del holder[path[-1]]
        case "replace":
            holder[path[-1]] = draw(values)
        case "nest":
            holder[path[-1]] = draw(st.sampled_from([[part], {"name": part}, {"x": part}]))
        case "double":
            holder[path[-1]] = [part, part]
        case "add" if isinstance(holder, dict):
            holder[draw(characters | odd)] = draw(values)
        case _:
            holder.append(draw(values)) if isinstance(holder, list) else None
    return value


@st.composite
def mutated(draw, *valid):
    """One of some valid values, changed once to four times; now and then nothing like it."""
    value = draw(st.sampled_from(valid))
    for _ in range(draw(st.integers(1, 4))):
        value = changed(draw, value)
    return value


def parts_of_yaml():
    """YAML that is nearly some."""
    tags = st.sampled_from(
        ["!!int", "!!float", "!!binary", "!!set", "!!timestamp", "!!omap", "!x", "&a", "*a", "? ", "- "]
    )
    words = st.sampled_from(["arms", "seed", "base", "optimizer", "2024-99-99", "2024-01-01", ".nan", "1e400", "0x1f"])
    marks = st.sampled_from([": ", "\n", "\n  ", " {", "}", " [", "]", ", ", '"', "'", "|", ">", "#", "<<: ", "---\n"])
    return st.lists(st.one_of(tags, words, marks, marks, characters), max_size=16).map("".join)


def cut(draw, content):
    """Bytes of a file with some of them changed, taken away or put in."""
    content = bytearray(content)
    for _ in range(draw(st.integers(1, 4))):
        at = draw(st.integers(0, max(0, len(content) - 1)))
        more = draw(st.binary(max_size=6))
        content[at : at + draw(st.integers(0, 6))] = more
    return bytes(content)


def written(path, content):
    """The path, with text or bytes in it; half characters as JSON has them."""
    path.write_bytes(content if isinstance(content, bytes) else content.encode("utf-8", "surrogatepass"))
    return path


def lines(rows):
    return "".join(json.dumps(row) + "\n" for row in rows)


CLAIMED = CONFIG | {"inputs": {"model": "x"}}


@cache
def records():
    """Of three arms, as they come back from JSON."""
    return tuple(json.loads(json.dumps(synthetic(1, arms=("base", "ngd", "ngd-random-neighbours")))))


@cache
def a_set():
    folder = Path(tempfile.mkdtemp()) / "set"
    return ReferenceSet.save(reference_set("olmoe"), folder)


def card_of(folder):
    return json.loads((folder / "card.json").read_text())


def beside(folder, whole, name, content):
    """A folder like a whole one, with another file in it."""
    folder.mkdir(exist_ok=True)
    for path in whole.iterdir():
        if path.is_file() and path.name != name:
            written(folder / path.name, path.read_bytes())
    written(folder / name, content)
    return folder


def ask_row(folder, row):
    read_question(row, "here")


def ask_file(folder, rows):
    load_questions(written(folder / "q.jsonl", lines(rows) if isinstance(rows, list) else rows))


def ask_records(folder, rows):
    path = written(folder / "records.jsonl", lines(rows) if isinstance(rows, list) else rows)
    before = path.read_bytes()
    found = passed(lambda: read_records(folder, AnswerRecord))
    assert path.read_bytes() == before
    opened = passed(lambda: Records(folder, AnswerRecord))
    assert isinstance(found, C3POError) == isinstance(opened, C3POError)
    assert path.read_bytes() == before or not isinstance(opened, C3POError), "what is refused stays"


def ask_summary(folder, row):
    rows = [*records()[:2], row]
    written(folder / "records.jsonl", lines(rows))
    kept = read_records(folder, AnswerRecord)
    summarize(kept, config={}, seed=0)
    write_parquet(kept, folder / "records.parquet")


def ask_config(folder, raw):
    study, config = read_study(written(folder / "run.yaml", yaml.safe_dump(raw)))
    if isinstance(config, ComparisonConfig):
        ComparisonWorker.here(config, default_registry()).check()
    out = Path(tempfile.mkdtemp(dir=folder)) / "run"
    claim(out, config.model_dump(mode="json"))
    study.parse(claimed_config(out))


def ask_yaml(folder, text):
    passed(lambda: read_yaml(written(folder / "run.yaml", text)))
    read_study(folder / "run.yaml")


def ask_setting(folder, setting):
    parsed(ComparisonConfig, deepcopy(CONFIG), [setting])


def ask_claim(folder, content):
    path = written(folder / "config.json", json.dumps(content))
    before = path.read_bytes()
    passed(lambda: claimed_config(folder))
    passed(lambda: claim(folder, {"a": 1}))
    assert path.read_bytes() == before


def ask_card(folder, card):
    found = ReferenceSet.load(beside(folder, a_set(), "card.json", json.dumps(card)))
    remixer(references=found)


def ask_rows(folder, rows):
    """The rows of a set, in a table of whatever columns they make."""
    path = folder / "questions.parquet"
    try:
        pq.write_table(pa.Table.from_pylist(rows), path)
    except (pa.ArrowException, AttributeError, LookupError, TypeError, ValueError, OverflowError):
        assume(False)
    ask_part(folder, path.name, path.read_bytes())


def ask_bytes(folder, damaged):
    ask_part(folder, *damaged)


def ask_part(folder, name, content):
    """A set with another file in it, which the card has the hash of."""
    whole = a_set()
    path = written(folder / name, content)
    card = card_of(whole)
    card["files"][name] = digest_of_file(path)
    beside(folder, whole, "card.json", json.dumps(card))
    written(path, content)
    remixer(references=ReferenceSet.load(folder))


def ask_model(folder, asked):
    text, choices = asked
    passed(lambda: shared_model("olmoe").score_choices(text, choices))
    passed(lambda: shared_model("olmoe").pathway(text))


@st.composite
def damaged(draw):
    name = draw(st.sampled_from(["questions.parquet", "tensors.safetensors"]))
    return name, cut(draw, (a_set() / name).read_bytes())


def a_list(*valid):
    """Rows of a file; or a file as text or bytes."""
    rows = st.lists(mutated(*valid) | st.sampled_from(valid) | values, max_size=4)
    return st.one_of(rows, rows, characters, st.binary(max_size=40))


def changed_set_rows():
    rows = pq.read_table(a_set() / "questions.parquet").to_pylist()
    return mutated(rows[0]).filter(lambda row: isinstance(row, dict)).map(lambda row: [row, *rows[1:]]) | mutated(rows)


def studied():
    files = [STUDIES / name / "config.yaml" for name in ("demo", "faithfulness", "speed")]
    return mutated(CONFIG, CONFIG, *(read_yaml(file) for file in files if file.is_file()))


def keyed():
    keys = st.sampled_from(
        ["seed", "arms", "ngd", "base", "optimizer", "lr", "datasets", "0", "-1", "limit", "model", ""]
    )
    key = st.lists(keys | characters, min_size=1, max_size=4).map(".".join)
    told = parts_of_yaml() | values.map(lambda value: yaml.safe_dump(value, default_flow_style=True))
    return st.tuples(key, told).map("=".join) | characters


@dataclass(frozen=True)
class Door:
    """What is let in, and where it goes.

    Attributes:
        inputs: makes the strategy, when it is needed.
        ask: with a folder to write to.
        quick: how many of them always.
        slow: how many with ``-m slow``.
    """

    inputs: Callable[[], st.SearchStrategy[Any]]
    ask: Callable[[Path, Any], None]
    quick: int = 200
    slow: int = 1500


DOORS = {
    "question rows": Door(lambda: mutated(QUESTION, LETTERED) | values, ask_row, slow=2500),
    "question files": Door(lambda: a_list(QUESTION, LETTERED), ask_file),
    "records": Door(lambda: a_list(*records()), ask_records),
    "summaries": Door(lambda: mutated(records()[2]), ask_summary, 40, 300),
    "configurations": Door(studied, ask_config, 100, 1000),
    "YAML": Door(parts_of_yaml, ask_yaml),
    "settings": Door(keyed, ask_setting, 150),
    "claims": Door(lambda: mutated({"hash": digest(CLAIMED), "config": CLAIMED}) | values, ask_claim),
    "cards of sets": Door(lambda: mutated(card_of(a_set())) | values, ask_card, 150, 1000),
    "tables of sets": Door(changed_set_rows, ask_rows, 100, 500),
    "bytes of sets": Door(damaged, ask_bytes, 100, 1000),
    "questions": Door(lambda: st.tuples(characters | odd | plain, st.lists(characters | odd, max_size=3) | values),
                      ask_model, 60, 500),
}  # fmt: skip


@pytest.mark.parametrize("amount", ["quick", pytest.param("slow", marks=pytest.mark.slow)])
@pytest.mark.parametrize("door", DOORS)
def test_gives_something_or_an_error_of_ours(door, amount, tmp_path):
    found = DOORS[door]

    @settings(
        max_examples=getattr(found, amount),
        deadline=None,
        derandomize=True,
        database=None,
        suppress_health_check=list(HealthCheck),
    )
    @given(found.inputs())
    def ask(value):
        passed(lambda: found.ask(Path(tempfile.mkdtemp(dir=tmp_path)), value))

    ask()


VALID = {
    "question rows": lambda: QUESTION,
    "question files": lambda: [QUESTION],
    "summaries": lambda: records()[2],
    "configurations": lambda: CONFIG,
    "settings": lambda: "seed=1",
    "cards of sets": lambda: card_of(a_set()),
    "tables of sets": lambda: pq.read_table(a_set() / "questions.parquet").to_pylist(),
}


@pytest.mark.parametrize("door", VALID)
def test_what_is_valid_is_let_in(door, tmp_path):
    """Without this, doors that refuse everything would pass."""
    DOORS[door].ask(tmp_path, VALID[door]())
