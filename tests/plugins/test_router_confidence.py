"""The selector that stands outside the package: loaded as a file, and by the entry point that its package declares."""

import tomllib
from pathlib import Path

import pytest
import torch

from c3po_adaptive.registry import new_registry
from c3po_adaptive.testing import SelectorContract, toy_problem

FOLDER = Path(__file__).parents[2] / "plugins" / "router_confidence"


@pytest.fixture(scope="module")
def registry():
    registry = new_registry()
    registry.load_file(FOLDER / "router_confidence.py")
    return registry


class TestRouterConfidence(SelectorContract):
    @pytest.fixture
    def selector(self, registry):
        return registry.create("selector", {"name": "router-confidence", "n": 2, "experts": 6})


def test_takes_the_layers_whose_own_choice_was_least_likely(registry):
    problem = toy_problem(selected=None)
    selection = registry.create("selector", {"name": "router-confidence", "n": 2, "experts": 6}).select(problem)
    for b in range(3):
        expected = torch.stack([-problem.router[b, row][problem.own[b, row] > 0].log().mean() for row in range(6)])
        torch.testing.assert_close(selection.scores[b], expected)
        assert selection.layers[b].nonzero().squeeze(1).tolist() == expected.topk(2).indices.sort().values.tolist()


def test_its_package_declares_the_module():
    project = tomllib.loads((FOLDER / "pyproject.toml").read_text())
    assert project["project"]["entry-points"]["c3po_adaptive"] == {"router-confidence": "router_confidence"}
    assert (FOLDER / "router_confidence.py").is_file()
    assert project["tool"]["hatch"]["build"]["targets"]["wheel"]["include"] == ["router_confidence.py"]
