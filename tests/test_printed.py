"""No public record fills more than a screen when it is printed, whatever it holds."""

import inspect
from dataclasses import fields, is_dataclass

import numpy as np
import pytest
import torch

import c3po_adaptive
from c3po_adaptive._printed import in_brief

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
