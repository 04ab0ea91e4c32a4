"""The tail of a question in its three layouts, written out by hand."""

import pytest
import torch

from c3po_adaptive.routing.packing import layout_for, pack, windows
from c3po_adaptive.routing.tail import tree_masks
from c3po_adaptive.testing import tiny_moe
from c3po_adaptive.types import Prompt

PROMPT = Prompt((4, 5, 6), options=((7, 8, 9), (7,), (1, 2)), lengths=(3.0, 1.0, 2.0))


class TestTree:
    def test_options_side_by_side_see_the_prompt_and_themselves_only(self):
        packed = pack(PROMPT, "tree")
        assert packed.tokens.tolist() == [[6, 7, 8, 1]], "an option's last token predicts nothing"
        assert packed.positions.tolist() == [[2, 3, 4, 3]]
        assert packed.visible.int().tolist() == [[1, 0, 0, 0], [1, 1, 0, 0], [1, 1, 1, 0], [1, 0, 0, 1]]
        assert packed.option.tolist() == [0, 0, 0, 1, 2, 2]
        assert packed.row.tolist() == [0, 1, 2, 0, 0, 3]
        assert packed.scored.tolist() == [7, 8, 9, 7, 1, 2]
        assert (packed.past, packed.acting, packed.rows) == (2, 0, 4)

    def test_raw_text_is_its_last_token(self):
        packed = pack(Prompt((4, 5)), "tree")
        assert packed.tokens.tolist() == [[5]]
        assert packed.positions.tolist() == [[1]]
        assert len(packed.option) == len(packed.row) == len(packed.scored) == 0


class TestSequences:
    def test_rows_begin_with_the_last_token(self):
        packed = pack(PROMPT, "rows")
        assert packed.tokens.tolist() == [[6, 7, 8], [6, 0, 0], [6, 1, 0]]
        assert packed.real.int().tolist() == [[1, 1, 1], [1, 0, 0], [1, 1, 0]]
        assert packed.positions.tolist() == [[2, 3, 4]] * 3
        assert packed.row.tolist() == [0, 1, 2, 3, 6, 7]
        assert packed.scored.tolist() == [7, 8, 9, 7, 1, 2]
        assert (packed.past, packed.acting, packed.rows) == (2, 0, 6)

    def test_whole_sequences_hold_the_prompt(self):
        packed = pack(PROMPT, "whole")
        assert packed.tokens.tolist() == [[4, 5, 6, 7, 8], [4, 5, 6, 0, 0], [4, 5, 6, 1, 0]]
        assert packed.row.tolist() == [2, 3, 4, 7, 12, 13]
        assert (packed.past, packed.acting, packed.rows) == (0, 2, 12)

    def test_options_of_one_token_share_a_sequence(self):
        packed = pack(Prompt((4, 5, 6), options=((7,), (8,), (9, 1)), lengths=(1.0, 1.0, 2.0)), "rows")
        assert packed.tokens.tolist() == [[6, 0], [6, 9]]
        assert packed.option.tolist() == [0, 1, 2, 2]
        assert packed.row.tolist() == [0, 0, 2, 3]
        assert packed.scored.tolist() == [7, 8, 9, 1]

    @pytest.mark.parametrize(("layout", "expected"), [("rows", [[5]]), ("whole", [[4, 5]])])
    def test_raw_text_is_one_sequence(self, layout, expected):
        packed = pack(Prompt((4, 5)), layout)
        assert packed.tokens.tolist() == expected
        assert len(packed.option) == 0


@pytest.mark.parametrize("layout", ["tree", "rows", "whole"])
def test_tokens_that_are_given_are_no_options(layout):
    given = Prompt((4, 5, 6), PROMPT.options, (2.0, 1.0, 1.0), given=(1, 0, 1))
    packed, whole = pack(given, layout), pack(PROMPT, layout)
    assert packed.option.tolist() == [-1, 0, 0, 1, -1, 2]
    assert (packed.row.tolist(), packed.scored.tolist()) == (whole.row.tolist(), whole.scored.tolist())


def test_the_tail_begins_where_the_pathway_acts():
    prompt = Prompt((4, 5, 6), options=((7, 8), (1,)), lengths=(2.0, 1.0), after=1)
    packed = pack(prompt, "tree")
    assert (packed.past, packed.acting, packed.last) == (1, 0, 1)
    assert packed.tokens.tolist() == [[5, 6, 7]]
    assert packed.positions.tolist() == [[1, 2, 3]]
    assert packed.visible.int().tolist() == [[1, 0, 0], [1, 1, 0], [1, 1, 1]]
    assert (packed.row.tolist(), packed.scored.tolist()) == ([1, 2, 1], [7, 8, 1])
    packed = pack(prompt, "rows")
    assert (packed.past, packed.acting, packed.last) == (1, 0, 1)
    assert packed.tokens.tolist() == [[5, 6, 7], [5, 6, 0]]
    assert packed.row.tolist() == [1, 2, 4]
    packed = pack(prompt, "whole")
    assert (packed.past, packed.acting, packed.last) == (0, 1, 2)
    assert packed.row.tolist() == [2, 3, 6]


class TestLayout:
    LETTERS = Prompt((4, 5), options=((7,), (8,)), lengths=(1.0, 1.0))

    @pytest.mark.parametrize(
        ("family", "letters", "words"),
        [
            ("olmoe", "tree", "tree"),
            ("gpt_oss", "tree", "tree"),
            ("jamba", "rows", "whole"),
            ("qwen3_next", "rows", "whole"),
            ("minimax", "whole", "whole"),
        ],
    )
    def test_the_cheapest_that_a_family_bears(self, family, letters, words):
        model = tiny_moe(family)
        assert layout_for(model, self.LETTERS) == letters
        assert layout_for(model, PROMPT) == words


class TestMasks:
    PACKED = (pack(Prompt((4, 5), ((6, 7), (8,)), (2.0, 1.0)), "tree"), pack(Prompt((1, 2, 3, 4)), "tree"))

    def seen(self, window=None, kind=""):
        return (tree_masks(self.PACKED, {kind: window}, torch.float32) == 0).int()[:, 0]

    def test_prompts_are_padded_on_the_left_and_tails_on_the_right(self):
        mask = tree_masks(self.PACKED, {"": None}, torch.float32)
        assert mask.shape == (2, 1, 2, 5)
        seen = (mask == 0).int()[:, 0].tolist()
        assert seen[0] == [[0, 0, 1, 1, 0], [0, 0, 1, 1, 1]]
        assert seen[1] == [[1, 1, 1, 1, 0], [0, 0, 0, 0, 1]], "padding sees itself, and nobody sees padding"

    def test_a_window_looks_back_from_each_token(self):
        seen = (tree_masks(self.PACKED, {"": 3}, torch.float32) == 0).int()[:, 0].tolist()
        # The layer's cache keeps two tokens of the prompt: with its own, a token sees three.
        assert seen[0] == [[0, 1, 1, 0], [0, 1, 1, 1]]
        assert seen[1] == [[1, 1, 1, 0], [0, 0, 0, 1]]

    def test_chunks_do_not_see_each_other(self):
        masks = tree_masks(self.PACKED, {"chunked_attention": 2, "full_attention": None}, torch.float32)
        chunked, full = ((masks[k] == 0).int()[:, 0].tolist() for k in ("chunked_attention", "full_attention"))
        assert chunked[0] == [[1, 1, 0], [0, 0, 1]], "the third token begins a chunk"
        assert full[0] == [[0, 0, 1, 1, 0], [0, 0, 1, 1, 1]]

    def test_kinds_of_a_family(self):
        assert windows(tiny_moe("olmoe")) == {"": None}
        assert windows(tiny_moe("gpt_oss")) == {"full_attention": None, "sliding_attention": 8}
