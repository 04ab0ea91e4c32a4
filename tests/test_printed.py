"""No public record fills more than a screen when it is printed, whatever it holds."""

import inspect
from dataclasses import fields, is_dataclass

import numpy as np
import pytest
import torch

import c3po_adaptive
from c3po_adaptive._printed import in_brief
from c3po_adaptive.types import Prompt, draw_key

LARGE = {
    "Tensor": torch.zeros(30, 8, 4),
    "tuple": tuple(range(3000)),
    "list": [torch.zeros(9, 9)] * 50,
    "Array": np.zeros((30, 8)),
    "NDArray": np.zeros((30, 8)),
    "dict": {i: torch.zeros(9, 9) for i in range(50)},
    "Mapping": {str(i): np.zeros((9, 9)) for i in range(50)},
}
PUBLIC = [getattr(c3po_adaptive, name) for name in c3po_adaptive.__all__]
RECORDS = [one for one in PUBLIC if inspect.isclass(one) and is_dataclass(one) and not inspect.isabstract(one)]
PLAIN = [one for one in RECORDS if one.__repr__ is in_brief or hasattr(one.__repr__, "__wrapped__")]
PLAIN.remove(c3po_adaptive.Question)  # which is its text
"""Those that print all of their fields; others say what they print."""


@pytest.mark.parametrize("record", PLAIN, ids=lambda one: one.__name__)
def test_a_record_prints_on_a_screen(record):
    one = object.__new__(record)
    for field in fields(record):
        object.__setattr__(one, field.name, LARGE.get(str(field.type).partition("[")[0].partition(" |")[0]))
    said = repr(one)
    assert said.startswith(f"{record.__name__}(") and "tensor(" not in said
    assert sum(len(line) // 80 + 1 for line in said.splitlines()) <= 24, said


def test_what_is_drawn_for_a_prompt_goes_by_all_of_it_and_not_by_what_is_printed():
    """Prompts that begin alike draw apart, and as they did for the answers that are kept."""
    prompts = [Prompt((1, 2, 3, 4, 5, 6)), Prompt((1, 2, 3, 4, 5, 7)), Prompt((1, 2, 3, 4, 5, 6), ((1,) * 9,))]
    keys = [draw_key(0, prompt) for prompt in prompts]
    assert len({repr(prompt) for prompt in prompts[:2]}) == 1 and len({*keys}) == 3
    assert keys[0] == 2700159285
    assert draw_key(0, Prompt((1, 2, 3, 4, 5, 7), ((1, 2), (3,)), (1.0, 2.0))) == 1896881042
