"""The plugin in one file, loaded as a user would, and held to the same contract as the built-ins."""

import ast
from pathlib import Path

import pytest
import torch

from c3po_adaptive.errors import SettingError
from c3po_adaptive.registry import Registry
from c3po_adaptive.testing import OptimizerContract, toy_problem

FILE = Path(__file__).parents[2] / "plugins" / "entropy_descent.py"


@pytest.fixture
def registry():
    registry = Registry()
    registry.load_file(FILE)
    return registry


class TestEntropyDescent(OptimizerContract):
    @pytest.fixture
    def optimizer(self, registry):
        return registry.create("optimizer", "entropy-descent")


def test_lowers_entropy_of_each_sample_with_or_without_neighbours(registry):
    problem = toy_problem(alone=[1])
    omega = registry.create("optimizer", "entropy-descent").optimize(problem)
    assert (problem.entropy(omega) < problem.entropy(problem.own)).all()


def test_does_not_read_references(registry):
    optimizer = registry.create("optimizer", "entropy-descent")
    assert torch.equal(optimizer.optimize(toy_problem()), optimizer.optimize(toy_problem(alone=[0, 1, 2])))


@pytest.mark.parametrize("setting", [{"steps": -1}, {"lr": 0.0}, {"lr_end": 1.0}])
def test_settings_are_checked(registry, setting):
    with pytest.raises(SettingError, match="Expected"):
        registry.create("optimizer", {"name": "entropy-descent"} | setting)


def test_uses_public_names_only():
    imports = {node.module for node in ast.walk(ast.parse(FILE.read_text())) if isinstance(node, ast.ImportFrom)}
    ours = {module for module in imports if module.startswith("c3po_adaptive")}
    assert ours == {"c3po_adaptive"}
