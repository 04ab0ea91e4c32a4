"""Two sets of routes held against each other: counted by hand, and on a model whose routers were moved a little."""

import copy
import math
from dataclasses import replace

import pytest
import torch
from c3po_traces.agreement import agreement, paired

from c3po_adaptive import DataError, RoutedModel, SettingError, record
from c3po_adaptive.models.traced import Trace, write_trace
from c3po_adaptive.testing import tiny_moe, tiny_tokenizer

E = 6


def trace(experts, tokens=None, weights=None, **more):
    experts = torch.tensor(experts)
    tokens = torch.arange(len(experts)) if tokens is None else torch.tensor(tokens)
    weights = None if weights is None else torch.tensor(weights)
    return Trace(tokens, (1, 3), experts, weights, E, name="toy", pieces={0: "a", 1: "b", 2: "c"}, **more)


ONE = trace([[[0, 1], [2, 3]], [[0, 1], [2, 3]], [[0, 1], [2, 3]]])
OTHER = trace([[[1, 0], [2, 3]], [[0, 2], [2, 3]], [[4, 5], [-1, -1]]])


def test_shares_and_sets_are_counted_where_both_recorded():
    found = agreement([(ONE, OTHER)])
    assert [(p.name, p.places) for p in found.by_layer] == [("1", 3), ("3", 2)]
    assert [p.experts for p in found.by_layer] == pytest.approx([0.5, 1])
    assert [p.same for p in found.by_layer] == pytest.approx([1 / 3, 1])
    assert found.experts.value == pytest.approx(3.5 / 5) and found.same.value == pytest.approx(3 / 5)
    assert [(p.name, p.places, p.experts) for p in found.by_token] == [
        ("0", 2, 1.0), ("1 to 2", 3, pytest.approx(0.5)),
    ]  # fmt: skip
    assert found.load == pytest.approx((0.5, 0)), "three of six uses are on other experts"
    assert found.beginnings == ((0, 1, "b", 1),) and found.pieces() == [("b", 1)]
    assert found.weights is None and found.nats is None and not found.by_margin
    bare = trace([[[0, 1], [2, 3]], [[-1, -1], [-1, -1]]])
    assert [part.name for part in agreement([(bare, bare)]).by_token] == ["0"], "nothing was recorded of the other"


def test_weights_move_by_half_the_sum_of_differences():
    one = trace([[[0, 1], [2, 3]]], weights=[[[0.5, 0.5], [2.0, 0.0]]])
    other = trace([[[1, 0], [2, 4]]], weights=[[[0.9, 0.1], [1.0, 0.0]]])
    found = agreement([(one, other)])
    assert found.weights.value == pytest.approx((0.4 + 0) / 2)
    assert found.same.value == 1, "an expert without weight is not used"


def test_texts_count_once_each_and_have_an_interval():
    found = agreement([(ONE, ONE)] * 3 + [(ONE, OTHER)])
    assert found.texts == 4 and found.same.value == pytest.approx((3 + 3 / 5) / 4)
    assert found.same.low < found.same.value < found.same.high
    assert [one.text for one in found.beginnings] == [3]
    assert math.isnan(agreement([(ONE, OTHER)]).same.low)


def test_partners_are_of_the_same_tokens():
    longer = trace([[[0, 1], [2, 3]]] * 4)
    found, alone = paired([ONE, longer, ONE], [OTHER, ONE])
    assert [pair[1] for pair in found] == [OTHER, ONE] and alone == 1
    with pytest.raises(SettingError, match=r"agreement\(one, other=None, .*'foreign'"):
        agreement([], foreign=[])
    with pytest.raises(SettingError, match="none in both"):
        agreement(paired([ONE], [longer])[0])


def test_sets_are_traces_files_or_folders(tmp_path):
    longer = trace([[[0, 1], [2, 3]]] * 4)
    for i, one in enumerate((OTHER, longer)):
        write_trace(one, tmp_path / f"{i}.parquet")
    wanted = agreement([(ONE, OTHER), (longer, longer)]).values()
    for other in ([longer, OTHER], tmp_path, str(tmp_path), [tmp_path / "0.parquet", longer]):
        assert agreement([ONE, longer], other).values() == wanted
    assert agreement(ONE, tmp_path / "0.parquet").texts == 1


@pytest.mark.parametrize(
    ("given", "error", "said"),
    [
        (([ONE, ONE],), SettingError, r"two sets of traces, got one, with a Trace; give the other"),
        ((ONE,), SettingError, r"two sets of traces, got one, with a Trace"),
        (([ONE, ONE], [OTHER]), SettingError, r"in the set and the set, got 1 without a partner beside 1 pairs"),
        ((ONE, ["a word " * 50]), DataError, r"Expected traces in 'a word .{0,80}, got none; c3po trace record"),
        (([(ONE, OTHER)], 3), DataError, r"or files or folders of them, got int; .* given as model="),
    ],
)
def test_what_are_no_two_sets_is_refused(given, error, said):
    with pytest.raises(error, match=said):
        agreement(*given)


def test_it_prints_on_a_screen():
    layers = tuple(range(0, 120, 2))
    one, other = (
        Trace(torch.arange(3), layers, torch.tensor([[experts] * 60] * 3), None, E, name=name)
        for experts, name in (([0, 1], "mine"), ([0, 2], ""))
    )
    said = str(agreement(one, other)).splitlines()
    assert said[:3] == [
        "Agreement of mine and an unknown model:",
        "  1 text, 180 places (a token in a layer) in both",
        "  experts that both use: 50.0 %, 33.3 % by chance; the same set: 0.0 % of places",
    ]
    assert said[3].startswith("  the same set by layer, the fewest: 0: 0.0 %, 2: 0.0 %, ")
    assert said[4:] == ["  1 of 1 texts differ; the tokens where most begin to: '0' 1"]
    assert max(map(len, said)) < 120


def test_sets_of_several_models_are_refused():
    with pytest.raises(SettingError, match=r"'?toy'? and of other"):
        agreement([(ONE, OTHER), (replace(ONE, name="other"), OTHER)])


def test_models_that_are_called_alike_are_told_apart_by_their_dtypes():
    of = (replace(trace, dtype=dtype) for trace, dtype in ((ONE, "float32"), (OTHER, "bfloat16")))
    assert "Agreement of toy in float32 and toy in bfloat16:" in str(agreement([tuple(of)]))
    assert "Agreement of toy and toy:" in str(agreement([(ONE, OTHER)])), "nobody knows"
    assert "Agreement of toy and other:" in str(agreement([(ONE, replace(OTHER, dtype="float32", name="other"))]))


def test_routes_part_where_routers_are_near_a_tie():
    plain = RoutedModel(tiny_moe("olmoe"), tiny_tokenizer(), name="plain")
    moved = copy.deepcopy(plain.model)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for layer in moved.model.layers:
            layer.mlp.gate.weight += 0.05 * torch.randn(layer.mlp.gate.weight.shape, generator=generator)
    moved = RoutedModel(moved, tiny_tokenizer(), name="moved")
    texts = ["the boat floats on the water", "who sells bread in the town", "a stone sinks", "snow lies in the hills"]
    found = agreement([(record(plain, text), record(moved, text)) for text in texts], model=plain)
    assert found.names == ("plain", "moved") and 0.5 < found.experts.value < 1
    assert len(found.by_margin) == 4 and found.by_margin[0].same < found.by_margin[-1].same
    assert sum(p.places for p in found.by_margin) == sum(p.places for p in found.by_layer)
    assert found.nats.value != 0
    by_module = agreement(record(plain, texts), record(moved, texts), model=plain.model, tokenizer=tiny_tokenizer())
    assert by_module.values() == found.values() and "nats" in str(found) and "by router's margin: " in str(found)
    same = agreement([(record(plain, text), record(plain, text)) for text in texts], model=plain)
    assert same.same.value == 1 and same.nats.value == pytest.approx(0, abs=1e-5) and not same.beginnings
