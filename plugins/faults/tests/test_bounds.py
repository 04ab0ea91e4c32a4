"""The upper bounds that are told a planted fault, as strategies."""

import pytest
import torch
from c3po_faults.fault_layers import FaultLayers
from c3po_faults.fault_undone import FaultUndone

from c3po_adaptive import SettingError
from c3po_adaptive.testing import OptimizerContract, SelectorContract, toy_problem


class TestFaultUndone(OptimizerContract):
    @pytest.fixture
    def optimizer(self):
        return FaultUndone()


class TestFaultLayers(SelectorContract):
    @pytest.fixture
    def selector(self):
        return FaultLayers()


def test_a_fault_undone_is_sound_weights_in_selected_layers():
    problem = toy_problem(told=True, selected=(4,), core=24)
    found = FaultUndone().optimize(problem)
    torch.testing.assert_close(found[:, 4], problem.truth.sound[:, 4])
    assert torch.equal(found[:, :4], problem.own[:, :4])
    assert torch.equal(found[:, 5], problem.own[:, 5])
    with pytest.raises(SettingError, match="truth of a planted fault"):
        FaultUndone().optimize(toy_problem())


def test_the_broken_layers():
    found = FaultLayers().select(toy_problem(told=True, selected=None))
    assert found.layers.tolist() == [[False] * 4 + [True] * 2] * 3
    with pytest.raises(SettingError, match="truth of a planted fault"):
        FaultLayers().select(toy_problem(selected=None))
