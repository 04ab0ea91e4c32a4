"""Groups of tails: all of them, of one kind each, and as cheap as any cut."""

from itertools import pairwise

import pytest
import torch

from c3po_adaptive.routing.grouping import OVERHEAD, Tail, grouped


def cost(groups, tails):
    known = {tail.number: tail for tail in tails}
    total = 0
    for group in groups:
        members = [known[i] for i in group]
        width = max(t.width for t in members)
        total += max(t.layers for t in members) * (OVERHEAD + width * sum(t.sequences for t in members))
    return total


def drawn(n, seed=0, kinds=1):
    generator = torch.Generator().manual_seed(seed)
    numbers = torch.randint(1, 40, (n, 3), generator=generator).tolist()
    return [Tail(i, i % kinds, width, 1 + a % 4, 1 + b % 12) for i, (width, a, b) in enumerate(numbers)]


@pytest.mark.parametrize("seed", range(5))
def test_everyone_is_in_one_group_of_its_kind(seed):
    tails = drawn(30, seed, kinds=3)
    groups = grouped(tails)
    assert sorted(i for group in groups for i in group) == list(range(30))
    assert all(len({i % 3 for i in group}) == 1 for group in groups)


@pytest.mark.parametrize("seed", range(5))
def test_no_cut_in_order_of_width_or_of_layers_is_cheaper(seed):
    tails = drawn(9, seed)
    found = cost(grouped(tails), tails)
    for order in (lambda t: (t.width, t.layers), lambda t: (t.layers, t.width)):
        row = sorted(tails, key=order)
        for cuts in range(1 << 8):
            ends = [0, *(i + 1 for i in range(8) if cuts >> i & 1), 9]
            assert found <= cost([[t.number for t in row[a:b]] for a, b in pairwise(ends)], tails)


def test_short_and_long_tails_part_where_padding_costs_more():
    short = [Tail(i, 0, 3, 1, 5) for i in range(20)]
    long = [Tail(20 + i, 0, 60, 1, 5) for i in range(20)]
    assert sorted(map(len, grouped(short + long))) == [20, 20]
    assert len(grouped([*short[:3], *long[:1]])) == 2
    assert len(grouped(short)) == 1


def test_nothing_to_group():
    assert grouped([]) == []
