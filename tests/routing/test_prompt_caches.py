"""What a cache layer holds is cut out, laid side by side and counted by names that are known; others are refused."""

from types import SimpleNamespace

import pytest
import torch

from c3po_adaptive.errors import ModelError
from c3po_adaptive.routing.prompt_caches import cut, joined, layer_of, overwritten


def hybrid(**more):
    """As transformers 5.25 has it: states that are overwritten, and a count that is a tensor without axes."""
    layer = SimpleNamespace(
        keys=torch.arange(8.0).view(2, 1, 4, 1),
        conv_states={0: torch.ones(2, 3), 1: None},
        has_previous_state={0: True, 1: False},
        cumulative_length=4,
        cumulative_length_linear=torch.tensor(4),
    )
    vars(layer).update(more)
    return layer


def test_a_count_is_of_the_layer_that_it_is_in():
    layer = hybrid()
    made = [layer_of(joined([cut(layer, b, 3) for b in (0, 1)], torch.arange(2)), 3) for _ in range(2)]
    made[0].cumulative_length_linear.add_(1)
    assert (layer.cumulative_length_linear, made[1].cumulative_length_linear, made[1].cumulative_length) == (4, 3, 3)
    assert torch.equal(made[1].keys, layer.keys[:, :, 1:])


@pytest.mark.parametrize("value", [torch.ones(2), {0: torch.ones(2)}, [torch.ones(2)]])
def test_tensors_of_an_unknown_name_are_refused(value):
    with pytest.raises(ModelError, match="'window'"):
        cut(hybrid(window=value), 0, 4)


def test_a_copy_of_a_state_may_be_overwritten_before_the_backward_pass():
    """transformers 5.25 overwrites copies: models/jamba/modeling_jamba.py."""
    weight, other = torch.ones(2, 3, requires_grad=True), torch.ones(5)
    with overwritten([hybrid()]):
        copy = torch.ones(2, 3)
        total = (copy * weight).sum()
        copy.zero_()
        bad = (other * weight[0, 0]).sum()
        other.zero_()
    total.backward()
    assert torch.equal(weight.grad, torch.ones(2, 3))
    with pytest.raises(RuntimeError, match="overwritten in place"):
        bad.backward()
