"""The tail of a question, written out by hand."""

import torch

from c3po_adaptive.routing.packing import pack
from c3po_adaptive.routing.states import attention_mask
from c3po_adaptive.types import Prompt


def test_options_side_by_side_see_the_prompt_and_themselves_only():
    packed = pack(Prompt((4, 5, 6), options=((7, 8, 9), (7,), (1, 2)), lengths=(3.0, 1.0, 2.0)))
    assert packed.tokens.tolist() == [6, 7, 8, 1], "an option's last token predicts nothing"
    assert packed.positions.tolist() == [2, 3, 4, 3]
    assert packed.visible.int().tolist() == [[1, 0, 0, 0], [1, 1, 0, 0], [1, 1, 1, 0], [1, 0, 0, 1]]
    assert packed.option.tolist() == [0, 0, 0, 1, 2, 2]
    assert packed.row.tolist() == [0, 1, 2, 0, 0, 3]
    assert packed.target.tolist() == [7, 8, 9, 7, 1, 2]


def test_raw_text_is_its_last_token():
    packed = pack(Prompt((4, 5)))
    assert packed.tokens.tolist() == [5]
    assert packed.positions.tolist() == [1]
    assert len(packed.option) == len(packed.row) == len(packed.target) == 0


def test_mask_pads_prompts_on_the_left_and_tails_on_the_right():
    trees = [torch.tensor([[True, False], [True, True]]), torch.tensor([[True]])]
    mask = attention_mask(trees, [1, 3], torch.float32)
    assert mask.shape == (2, 1, 2, 5)
    seen = (mask == 0).int()[:, 0].tolist()
    assert seen[0] == [[0, 0, 1, 1, 0], [0, 0, 1, 1, 1]]
    assert seen[1] == [[1, 1, 1, 1, 0], [1, 1, 1, 0, 1]], "padding sees itself, and nobody sees padding"
