"""The package's shape: imports point one way, nothing heavy is loaded early, public names exist, tests are strict."""

import ast
import subprocess
import sys
import tomllib
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

import c3po_adaptive

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "c3po_adaptive"

STRATEGIES = ("kernels", "retrievers", "optimizers", "selectors")
REGISTRY = {"answerers", "hookspecs", "builtin", "registry"}
GROUND = {"_lazy", "errors", "elsewhere", "records", "types", "checks", "settings", "ledger", "progress", "storage"}
GROUND |= {"_printed", "gate", "pictures"}
LOW = {"routing", "tasks", "problem", "losses"}
# Which room may enter which, from the bottom up. A room is a folder, or some files at the top of the package.
ROOMS = [
    (GROUND, GROUND),
    (LOW, GROUND | {"storage", "problem", "losses"}),
    ({"models"}, GROUND | {"storage", "routing", "tasks"}),
    ({"rules"}, GROUND | {"routing"}),
    ({"kernels", "retrievers"}, GROUND | {"storage", "kernels"}),
    ({"attribution"}, GROUND | {"routing", "problem"}),
    ({"optimizers"}, GROUND | {"routing", "problem", "kernels", "retrievers"}),
    ({"selectors"}, GROUND | {"routing", "problem", "losses", "attribution", "optimizers"}),
    ({"references"}, GROUND | LOW | {"models", "retrievers"}),
    ({"remixing"}, GROUND | LOW | {"models", "references", *STRATEGIES}),
    (REGISTRY, GROUND | LOW | {"models", "rules", "references", "remixing", *REGISTRY, *STRATEGIES}),
    ({"analysis", "report"}, GROUND | {"storage", "models", "tasks", "references", "remixing", "analysis"}),
    ({"", "api", "traces"}, GROUND | LOW | {"models", "attribution", "references", "remixing", "analysis", "report"}
     | {*REGISTRY, *STRATEGIES, "rules"}),
    ({"study"}, GROUND | LOW | {"models", "attribution", "references", "remixing", "answerers", "registry"}
     | {"analysis", "report", "api", *STRATEGIES, "rules"}),
    ({"testing"}, GROUND | LOW | {"models", "references", "answerers", "registry", *STRATEGIES, "rules"}),
    ({"cli", "__main__"}, GROUND | LOW | {"models", "references", "registry", "api", "study", "testing"}
     | {"rules"}),
]  # fmt: skip
DEMO = ["study", "plan", str(ROOT / "studies" / "demo" / "config.yaml")]
MISSPELT = ([*DEMO, "--set", "sed=1"], [*DEMO, "--set", "arms.ngd.selectr.n=5"], [*DEMO, "--dataset", "dem"])
HEAVY = ("faiss", "captum", "sklearn", "sentence_transformers", "matplotlib", "transformers", "torch")


def module_name(path):
    parts = path.relative_to(PACKAGE).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {module_name(path): path for path in sorted(PACKAGE.rglob("*.py"))}


def room(module):
    """A module's folder, or its own name at the top of the package."""
    return module.split(".")[0]


def imports(module, *, only_at_import=False):
    """Modules of the package that a module imports, relative ones too; with those inside functions or not."""
    path = MODULES[module]
    package = ["c3po_adaptive", *module.split(".")] if module else ["c3po_adaptive"]
    if path.name != "__init__.py":
        package = package[:-1]
    found = set()
    for node in statements(ast.parse(path.read_text()), only_at_import):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = ".".join([*package[: len(package) - node.level + 1], *filter(None, [node.module])])
            base = base if node.level else node.module
            found |= {f"{base}.{a.name}" if f"{base}.{a.name}" in full_names() else base for a in node.names}
    ours = {name.removeprefix("c3po_adaptive").lstrip(".") for name in found if name.split(".")[0] == "c3po_adaptive"}
    return ours - {""}


def full_names():
    return {f"c3po_adaptive.{name}" for name in MODULES if name}


def statements(tree, only_at_import):
    """All nodes; or those that run when the module is imported."""
    for child in ast.iter_child_nodes(tree):
        if only_at_import and (isinstance(child, ast.FunctionDef) or is_for_type_checkers(child)):
            continue
        yield child
        yield from statements(child, only_at_import)


def is_for_type_checkers(node):
    return isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING"


def test_imports_are_read():
    rooms = {f"routing.{name}" for name in ("gates", "mixing", "modules", "sites", "styles")}
    assert imports("routing.intercept") == {"errors", "gate", *rooms}
    assert imports("kernels.gaussian") >= {"kernels.base"}
    assert "remixing.remixer" in imports("answerers.base"), "inside functions, too"
    assert "remixing.remixer" not in imports("answerers.base", only_at_import=True)
    assert "models.routed" in imports("references.prefill_store"), "and for type checkers"


def test_every_room_is_in_the_table_once():
    listed = [name for rooms, _ in ROOMS for name in rooms]
    assert sorted(listed) == sorted({room(module) for module in MODULES})


def test_ten_floors_at_most():
    """The longest chain of rows of the table that enter each other."""
    row = {name: i for i, (rooms, _) in enumerate(ROOMS) for name in rooms}
    floors = [1] * len(ROOMS)
    for i, (rooms, _) in enumerate(ROOMS):  # from the bottom up: what a row enters stands before it
        below = {row[room(other)] for module in MODULES if room(module) in rooms for other in imports(module)} - {i}
        assert all(j < i for j in below), f"{sorted(rooms)} stands below what it enters"
        floors[i] += max((floors[j] for j in below), default=0)
    assert max(floors) <= 10, dict(zip(map(str, (sorted(r) for r, _ in ROOMS)), floors, strict=True))


def test_rooms_enter_only_those_below():
    for rooms, entered in ROOMS:
        inside = {other for module in MODULES if room(module) in rooms for other in map(room, imports(module))}
        assert inside - rooms <= entered, f"{sorted(rooms)} may not import {sorted(inside - rooms - entered)}"


def test_no_circle_between_modules_or_rooms():
    """Imports inside functions and for type checkers count: what knows of each other cannot be understood alone."""
    graph = {name: imports(name) for name in MODULES if name}
    TopologicalSorter(graph).prepare()  # raises CycleError, which names the circle
    rooms = {}
    for name, others in graph.items():
        rooms.setdefault(room(name), set()).update(set(map(room, others)) - {room(name)})
    TopologicalSorter(rooms).prepare()


def test_hooks_are_set_in_one_place():
    """Set elsewhere they would act in every thread; llama4's changes no routing."""
    setting = {name for name, path in MODULES.items() if "register_forward" in path.read_text()}
    assert setting == {"routing.modules", "models.llama4"}


def test_few_files_at_the_top_and_folders_that_say_what_they_are():
    assert len(list(PACKAGE.glob("[!_]*.py"))) <= 14
    assert all(ast.get_docstring(ast.parse(path.read_text())) for path in PACKAGE.glob("*/__init__.py"))


@pytest.mark.parametrize("module", MODULES)
def test_core_imports_no_plugins_studies_or_tests(module):
    names = {name.split(".")[0] for name, _ in imported(MODULES[module])}
    assert names & {"plugins", "studies", "tests", "conftest"} == set()
    assert {name for name in names if name.startswith("c3po_")} <= {"c3po_adaptive"}


def imported(path):
    """Module and name of each import that is not relative; None: the module itself."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from ((alias.name, None) for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and not node.level:
            yield from ((node.module, alias.name) for alias in node.names)


@pytest.mark.parametrize("folder", ["c3po_adaptive", "studies"])
def test_no_check_is_an_assert(folder):
    """``python -O`` leaves them out: what is checked would be believed."""
    has_no_asserts(folder)


def has_no_asserts(folder):
    paths = sorted(path for path in (ROOT / folder).rglob("*.py") if "tests" not in path.parts)
    assert paths
    for path in paths:
        lines = [n.lineno for n in ast.walk(ast.parse(path.read_text())) if isinstance(n, ast.Assert)]
        assert not lines, f"{path}: {lines}"


@pytest.mark.parametrize(
    "code",
    [
        "import c3po_adaptive",
        "from c3po_adaptive.cli import app; app(['--help'], standalone_mode=False)",
        *(f"from c3po_adaptive.cli import app; app({words}, standalone_mode=False)" for words in MISSPELT),
    ],
    ids=["import", "help", "a key", "an arm's key", "a data set"],
)
def test_nothing_heavy_is_loaded_before_it_is_needed(code):
    ask = f"import sys; print([name for name in {HEAVY} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", f"{code}\n{ask}"], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"


@pytest.mark.parametrize("name", c3po_adaptive.__all__)
def test_public_names_are_there(name):
    assert getattr(c3po_adaptive, name).__doc__


def test_public_names_are_sorted_and_others_are_refused():
    order = lambda name: (not name.isupper(), not name[0].isupper(), name)  # noqa: E731 (constants, classes, functions)
    assert c3po_adaptive.__all__ == sorted(c3po_adaptive.__all__, key=order)
    assert not hasattr(c3po_adaptive, "Optimiser")


def test_pytest_is_strict():
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["pytest"]["ini_options"]
    assert settings["filterwarnings"][0] == "error"
    assert settings["xfail_strict"] is True
    assert {"--strict-markers", "--strict-config"} <= set(settings["addopts"].split())
