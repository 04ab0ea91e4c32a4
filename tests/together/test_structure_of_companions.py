"""The companions' shape: they import public names, what anybody imports is declared, and what they bring is found."""

import re
import sys
import tomllib
from importlib import import_module
from importlib.metadata import packages_distributions

import pytest
from test_structure import PACKAGE, ROOT, has_no_asserts, imported

import c3po_adaptive
from c3po_adaptive import elsewhere
from c3po_adaptive.registry import ROLES, default_registry

COMPANIONS = sorted((ROOT / "plugins").glob("*/c3po_*/"))
PUBLIC = {f"c3po_adaptive{name}" for name in ("", ".cli", ".errors", ".models.traced", ".pictures", ".report")}
PUBLIC |= {f"c3po_adaptive{name}" for name in (".analysis", ".attribution", ".study", ".tasks", ".testing", ".types")}
APART = "c3po_vllm"
"""A package of its own, which imports more."""


@pytest.mark.parametrize("folder", [one for one in COMPANIONS if one.name != APART], ids=lambda one: one.name)
def test_companions_import_public_names_alone(folder):
    for path in folder.rglob("*.py"):
        for module, name in imported(path):
            if module.split(".")[0] == "c3po_adaptive":
                assert module in PUBLIC, f"{path} imports {module}"
                public = import_module(module)
                assert name in (None, *getattr(public, "__all__", vars(public))), f"{path} imports {name} of {module}"


def test_no_check_is_an_assert():
    has_no_asserts("plugins")


def test_nor_in_the_plugins_that_are_begun_from_templates():
    templates = list(ROOT.glob("plugins/*/c3po_*/**/*.py.j2"))
    assert templates
    assert not [path.name for path in templates if "assert " in path.read_text() and "test" not in path.name]


@pytest.mark.parametrize(("role", "name"), [key for key in elsewhere.BROUGHT if key[0] in ROLES])
def test_strategies_that_are_elsewhere_are_brought(role, name):
    assert default_registry().create(role, name).name == name


def test_names_that_people_look_for_in_the_core_are_there():
    homes = {"Causal": "c3po_faithfulness", "MoEMonitor": "c3po_training", "routing_statistics": "c3po_audit"}
    homes |= {"agreement": "c3po_traces", "load_run": "c3po_compare", "texts_of": "c3po_benchmarks"}
    for name, home in homes.items():
        assert getattr(c3po_adaptive, name).__module__.startswith(home)


def test_what_is_imported_is_declared_and_what_is_declared_is_imported():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = {name_of(wanted) for part in project["optional-dependencies"].values() for wanted in part}
    needed = {name_of(wanted) for wanted in project["dependencies"]}
    brings = packages_distributions()
    of_wheel = set()
    for path in python_files():
        for root in {module.split(".")[0] for module, _ in imported(path)} - NOT_FROM_ELSEWHERE:
            packages = {name_of(package) for package in brings.get(root, [root])}
            assert packages & (needed | extras), f"{path} imports {root}"
            of_wheel |= packages if any(map(path.is_relative_to, (PACKAGE, *COMPANIONS))) else set()
    assert needed - of_wheel == {"gguf"}, "which transformers loads"


def python_files():
    return [path for folder in FOLDERS for path in sorted((ROOT / folder).rglob("*.py"))]


FOLDERS = ("c3po_adaptive", "plugins", "studies", "docs", "tests")
OURS = {part for path in python_files() for part in path.relative_to(ROOT).with_suffix("").parts}
NOT_FROM_ELSEWHERE = {*sys.stdlib_module_names, *OURS, "vllm", "own_selector", "own_step"}
"""vLLM is an extra of plugins/vllm, which has a pyproject of its own; the others tests write."""


def name_of(requirement):
    return re.match(r"[\w.-]+", requirement)[0].lower().replace("_", "-")
