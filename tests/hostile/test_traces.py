"""Traces that others wrote: what comes in can be replayed."""

import json
import tempfile
from dataclasses import replace
from functools import cache
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from hostile.doors import is_refused, passed
from hostile.test_generated import cut, written
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from routing.naive import shared_model
from routing.recorded import own_trace

from c3po_adaptive.errors import ShapeError
from c3po_adaptive.models.traced import replay
from c3po_adaptive.routing.trace import Trace, parted
from c3po_adaptive.routing.trace_file import KEY, read_trace, write_trace

NAN, INF = float("nan"), float("inf")


@cache
def a_table():
    path = Path(tempfile.mkdtemp()) / "a.parquet"
    return pq.read_table(write_trace(own_trace(), path))


def a_file(folder, card=None, **columns):
    """A trace's file with other things in its card and its columns; ``columns`` are functions of rows."""
    table = a_table()
    for name, changed in columns.items():
        rows = table[name].to_pylist()
        table = table.set_column(table.column_names.index(name), name, changed(rows))
    held = json.loads(table.schema.metadata[KEY]) | (card or {})
    path = folder / "b.parquet"
    pq.write_table(table.replace_schema_metadata({KEY: json.dumps(held)}), path)
    return path


def with_first(value):
    """Rows with another value in the first place of each."""

    def changed(rows):
        kind = pa.list_(pa.int16() if isinstance(rows[0][0], int) else pa.float32())
        return pa.array([[value, *row[1:]] for row in rows], kind)

    return changed


# -- at the door -------------------------------------------------------------------------------------------------------

PARTS = {
    "tokens": torch.arange(3),
    "layers": (0, 1),
    "experts": torch.tensor([[[1, 2]] * 2] * 3),
    "weights": torch.ones(3, 2, 2),
    "n_experts": 8,
}


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"weights": torch.full((3, 2, 2), -0.5)}, "negative"),
        ({"weights": torch.full((3, 2, 2), INF)}, "infinite"),
        ({"weights": torch.full((3, 2, 2), NAN)}, "NaN"),
        ({"weights": torch.full((3, 2, 2), 3e38)}, "larger"),
        ({"weights": torch.ones(3, 2, 2, dtype=torch.bool)}, "float32.*bool"),
        ({"weights": torch.ones(3, 2, 2, dtype=torch.long)}, "float32.*int64"),
        ({"experts": torch.tensor([[[1, 2]] * 2, [[1, 2], [3, 3]], [[1, 2]] * 2])}, "3, 3 at token 1 of layer 1"),
        ({"experts": torch.tensor([[[1, -2]] * 2] * 3)}, "from 0 to 7, or -1, got -2"),
        ({"experts": torch.tensor([[[1, 8]] * 2] * 3)}, "got 1 to 8"),
        ({"experts": torch.tensor([[[1.0, 2.5]] * 2] * 3)}, "int64, got torch.int64 and torch.float32"),
        ({"experts": torch.ones(3, 2, 2, dtype=torch.bool)}, "got torch.int64 and torch.bool"),
        ({"experts": torch.full((3, 2, 2), 2**64 - 1, dtype=torch.uint64)}, "torch.uint64"),
        ({"tokens": torch.ones(3, dtype=torch.bool)}, "torch.bool"),
        ({"tokens": torch.tensor([0.0, 1.5, 2.0])}, "torch.float32"),
        ({"tokens": torch.tensor([0, 1, -1])}, "token ids"),
        ({"tokens": torch.tensor([0, 1, 2**31])}, "token ids"),
        ({"tokens": torch.arange(6).view(3, 2)}, "token ids"),
        ({"layers": (1, 0)}, "rising"),
        ({"layers": (1, 1)}, "rising"),
        ({"layers": (-1, 0)}, "rising"),
        ({"layers": (0, 2**40)}, "rising"),
        ({"layers": (), "experts": torch.ones(3, 0, 2).long(), "weights": None}, "rising"),
        ({"n_experts": 2**40}, "n_experts from 1"),
        ({"n_experts": 0}, "n_experts from 1"),
        ({"experts": torch.zeros(3, 2, 2).long()}, "zeros"),
        ({"experts": torch.tensor([[[0, 0]] * 2, [[0, 0]] * 2, [[-1, -1]] * 2])}, "zeros"),
        ({"experts": torch.zeros(3, 2, 1).long(), "weights": None}, "zeros"),
        ({"experts": torch.tensor([[[0]] * 2, [[0]] * 2, [[-1]] * 2]), "weights": None}, "zeros"),
        ({"experts": torch.ones(2, 2, 2).long()}, r"\(T, L\) = \(3, 2\)"),
        ({"weights": torch.ones(3, 2, 1)}, "experts' shape"),
    ],
)
def test_what_no_router_does_is_refused(changes, said):
    Trace(**PARTS)
    with pytest.raises(ShapeError, match=said):
        Trace(**PARTS | changes)


def test_no_more_experts_than_there_are():
    experts = (torch.arange(20_000) % 8).expand(3, 2, -1)
    with pytest.raises(ShapeError, match="different experts") as caught:
        Trace(**PARTS | {"experts": experts, "weights": None})
    assert len(str(caught.value)) < 300


def test_traces_of_more_experts_a_token_part_everywhere_and_take_no_room():
    one = Trace(**PARTS | {"n_experts": 2**15 - 1})
    other = replace(one, experts=torch.tensor([[[1, 2, 3]] * 2] * 3), weights=None)
    assert parted(one, other).all()
    assert not parted(one, one).any()


# -- files -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "card",
    [
        {"tokens": 2**40, "layers": []},
        {"tokens": 2**40},
        {"tokens": 10**400},
        {"top_k": 2**15 - 1},
        {"top_k": 0},
        {"layers": []},
        {"layers": [2, 1, 0]},
        {"n_experts": 0},
        {"n_experts": 1},
        {"tokens": -1},
    ],
    ids=str,
)
def test_cards_that_claim_what_the_file_does_not_hold(tmp_path, card):
    is_refused(lambda: read_trace(a_file(tmp_path, card)))


def test_a_card_of_2_to_the_40_tokens_of_no_layer_is_answered_at_once(tmp_path):
    table = a_table().slice(0, 0)
    held = json.loads(table.schema.metadata[KEY]) | {"tokens": 2**40, "layers": []}
    pq.write_table(table.replace_schema_metadata({KEY: json.dumps(held)}), tmp_path / "b.parquet")
    is_refused(lambda: read_trace(tmp_path / "b.parquet"))


@pytest.mark.parametrize(
    "columns",
    [
        {"weights": with_first(-0.5)},
        {"weights": with_first(NAN)},
        {"weights": with_first(None)},
        {"weights": lambda rows: pa.array(rows, pa.list_(pa.float64()))},
        {"weights": lambda rows: pa.array([[*rows[0], 0.0], rows[1][:1], *rows[2:]], pa.list_(pa.float32()))},
        {"experts": with_first(-2)},
        {"experts": with_first(8)},
        {"experts": with_first(None)},
        {"experts": lambda rows: pa.array([[2] * len(row) for row in rows], pa.list_(pa.int16()))},
        {"experts": lambda rows: pa.array([None, *rows[1:]], pa.list_(pa.int16()))},
        {"token": lambda rows: pa.array([None, *rows[1:]], pa.int32())},
        {"token": lambda rows: pa.array([-1] * len(rows), pa.int32())},
        {"token": lambda rows: pa.array([*rows[:1], rows[1] + 1, *rows[2:]], pa.int32())},
        {"position": lambda rows: pa.array([None, *rows[1:]], pa.int32())},
        {"layer": lambda rows: pa.array([None, *rows[1:]], pa.int16())},
        {"layer": lambda rows: pa.array([0] * len(rows), pa.int16())},
    ],
)  # fmt: skip
def test_columns_that_hold_something_else(tmp_path, columns):
    is_refused(lambda: read_trace(a_file(tmp_path, **columns)))


def test_the_columns_as_they_are_pass(tmp_path):
    assert torch.equal(read_trace(a_file(tmp_path)).weights, own_trace().weights)


weight = st.one_of(st.floats(width=32), st.sampled_from([0.0, 0.5, -1.0, INF, NAN, 2.0**15]))
few = st.lists(st.tuples(st.integers(-2, 9), st.integers(-2, 9), weight, weight), min_size=1, max_size=4)


@settings(max_examples=150, deadline=None, database=None, suppress_health_check=list(HealthCheck))
@given(few)
def test_whatever_passes_the_door_is_replayed_to_numbers(tmp_path, rows):
    experts, weights = own_trace().experts[:-1].clone(), own_trace().weights[:-1].clone()
    for place, (a, b, wa, wb) in enumerate(rows):
        experts[place, 1], weights[place, 1] = torch.tensor([a, b]), torch.tensor([wa, wb])
    of_rows = {
        "experts": lambda _: pa.array([*experts.flatten(0, 1).tolist(), *([[-1, -1]] * 3)], pa.list_(pa.int16())),
        "weights": lambda _: pa.array([*weights.flatten(0, 1).tolist(), *([[0.0, 0.0]] * 3)], pa.list_(pa.float32())),
    }
    found = passed(lambda: read_trace(a_file(tmp_path, **of_rows)))
    if isinstance(found, Trace):
        assert replay(shared_model("olmoe"), found).isfinite().all()


@settings(max_examples=150, deadline=None, database=None, suppress_health_check=list(HealthCheck))
@given(st.data())
def test_bytes_of_a_trace_that_were_changed(tmp_path, data):
    path = written(tmp_path / "c.parquet", cut(data.draw, a_file(tmp_path).read_bytes()))
    passed(lambda: read_trace(path))


@pytest.mark.parametrize("name", ["", "a\0b", "x" * 300, "folder", "dangling", "loop"])
def test_places_where_no_trace_is(tmp_path, name):
    (tmp_path / "folder").mkdir()
    (tmp_path / "dangling").symlink_to(tmp_path / "nowhere")
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    is_refused(lambda: read_trace(tmp_path / name))
    is_refused(lambda: read_trace(str(tmp_path / name)))
