"""The registry: all of its doors, and everything it must be loud about."""

import json
import re
import subprocess
import sys
import textwrap
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import ClassVar

import pytest

from c3po_adaptive import elsewhere, hookspecs
from c3po_adaptive.errors import PluginError, SettingError, UnknownNameError
from c3po_adaptive.hookspecs import hookimpl
from c3po_adaptive.kernels import Gaussian, Kernel, Linear
from c3po_adaptive.optimizers.base import PathwayOptimizer
from c3po_adaptive.registry import OTHERS, ROLES, Registry, default_registry, in_words, new_registry
from c3po_adaptive.registry.specs import parts_of
from c3po_adaptive.retrievers import FaissKNN
from c3po_adaptive.rules import TopK
from c3po_adaptive.selectors.base import LayerSelector


@dataclass(frozen=True)
class Constant(Kernel):
    """The same for all.

    A second paragraph.
    """

    value: float = 1.0
    name: ClassVar[str] = "constant"

    def __call__(self, x, y):
        raise NotImplementedError


@dataclass(frozen=True)
class Still(PathwayOptimizer):
    """Does nothing, slowly."""

    kernel: Kernel = field(default_factory=Gaussian)
    inner: "PathwayOptimizer | None" = None
    sizes: tuple[int, ...] = (1, 2)
    state: object = field(default=None, repr=False)
    name: ClassVar[str] = "still"

    def optimize(self, problem):
        return problem.own


@dataclass(frozen=True)
class Wrapper(LayerSelector):
    inner: LayerSelector
    name: ClassVar[str] = "wrapper"

    def select(self, problem):
        return self.inner.select(problem)


NEEDED = {
    "rule": {"rule": "ban:3,5@16-20;top-k:1"},
    "ban": {"experts": [3, 5]},
    "force": {"experts": [2], "layers": "last-5"},
    "bias": {"experts": [3], "by": 2.5},
    "top-k": {"k": 1},
    "temperature": {"value": 0.5},
}
"""Parameters that have no default."""


def kernels(*classes):
    """A plugin with these kernels."""
    return SimpleNamespace(register_kernels=hookimpl(lambda: list(classes)))


def with_kernel(*classes):
    """A registry with these kernels."""
    made = Registry()
    made.register(kernels(*classes), "plugin-a")
    return made


def kernel_class(**members):
    """A kernel like ``Constant``, changed."""
    return dataclass(frozen=True)(
        type("Changed", (Kernel,), {"name": "changed", "__call__": Constant.__call__} | members)
    )


@pytest.mark.parametrize(
    ("role", "hook", "cls", "spec"),
    [
        ("optimizer", "register_optimizers", Still, "still"),
        ("kernel", "register_kernels", Constant, "constant"),
        ("retriever", "register_retrievers", FaissKNN, "faiss-knn"),
        ("selector", "register_layer_selectors", Wrapper, {"name": "wrapper", "inner": Wrapper(inner=None)}),
        ("rule", "register_rules", TopK, "top-k:1"),
    ],
)
def test_every_hook_registers(role, hook, cls, spec):
    registry = Registry()
    registry.register(SimpleNamespace(**{hook: hookimpl(lambda: [cls])}), "plugin-a")
    assert registry.names(role) == [cls.name]
    assert registry.get(role, cls.name) is cls
    assert isinstance(registry.create(role, spec), cls)
    assert [r for r in ROLES if registry.names(r)] == [role]


def test_every_hook_is_documented_and_has_a_role():
    hooks = {name for name in vars(hookspecs) if name.startswith("register_")}
    assert hooks == {hook for _, hook in ROLES.values()} | {*OTHERS.values()}
    assert all(getattr(hookspecs, hook).__doc__.count("\n") == 0 for hook in hooks)


@pytest.mark.parametrize(("what", "hook"), OTHERS.items())
def test_what_is_no_strategy_is_kept_by_name(what, hook):
    registry, brought = Registry(), object()
    registry.register(SimpleNamespace(**{hook: hookimpl(lambda: {"mine": brought})}), "plugin-a")
    assert registry.others(what) == ["mine"]
    assert registry.other(what, "mine") is brought
    assert registry.table() == []
    with pytest.raises(UnknownNameError, match=f"Expected an? {what}, got 'mines'; did you mean 'mine'.*There is mine"):
        registry.other(what, "mines")
    for wrong, said in (
        ({"mine": 1}, f"one {what} called 'mine', got another of plugin 'b'"),
        ([1], "a mapping by name"),
    ):
        with pytest.raises(PluginError, match=said):
            registry.register(SimpleNamespace(**{hook: hookimpl(lambda wrong=wrong: wrong)}), "b")


def test_built_ins_come_through_the_same_door():
    registry = new_registry(installed=False)
    assert registry.names("kernel") == ["gaussian", "linear", "matern", "polynomial"]
    assert registry.names("retriever") == ["faiss-knn", "faiss-radius", "random"]
    assert registry.names("selector") == ["amortized", "attribution", "fixed", "gradient", "misrouted", "random"]
    papers = ["kernel-regression", "mode-finding", "ngd"]
    ours = ["amortized-ngd", "constant", "constant-integrated-step", "integrated-step", "none", "random-change"]
    assert registry.names("optimizer") == sorted([*papers, *ours, "oracle"])
    assert registry.names("answerer") == ["remix", "rule"]
    assert registry.names("rule") == ["ban", "bias", "force", "temperature", "top-k"]
    assert {entry.plugin for entry in registry.table()} == {"builtin"}
    assert all(entry.doc for entry in registry.table()), "each says what it does"


@pytest.mark.parametrize("entry", new_registry(installed=False).table(), ids=lambda e: f"{e.role}-{e.name}")
def test_built_ins_are_made_again_from_their_description(entry):
    registry = new_registry(installed=False)
    needed = NEEDED.get(entry.name, {})
    strategy = registry.create(entry.role, {"name": entry.name, **needed})
    assert registry.create(entry.role, json.loads(json.dumps(registry.describe(strategy)))) == strategy


def test_a_strategy_in_words():
    registry = default_registry()
    assert in_words(registry.create("selector", {"name": "gradient", "n": 8, "experts": None})) == (
        "gradient (n 8, experts all)"
    )
    assert in_words(registry.create("selector", "gradient")) == "gradient"
    wrapped = registry.create("optimizer", {"name": "random-change", "of": {"name": "ngd", "steps": 3}})
    assert "of ngd (steps 3)" in in_words(wrapped)


@pytest.mark.parametrize(("role", "name"), [key for key in elsewhere.BROUGHT if key[0] in ROLES])
def test_what_is_elsewhere_is_refused_with_what_brings_it(role, name):
    how = elsewhere.BROUGHT[role, name]
    with pytest.raises(UnknownNameError, match=rf"got '{name}'; it is in a plugin of the repository: {re.escape(how)}"):
        new_registry(installed=False).create(role, name)


def test_default_registry_is_built_once_and_others_are_fresh():
    assert default_registry() is default_registry()
    assert new_registry() is not new_registry()
    assert Registry().table() == []


def test_table_says_where_each_comes_from():
    (entry,) = with_kernel(Constant).table()
    assert (entry.role, entry.name, entry.cls, entry.plugin) == ("kernel", "constant", Constant, "plugin-a")
    assert entry.doc == "The same for all."
    assert entry.module == __name__


class TestCreate:
    def test_from_name_mapping_or_object(self):
        registry = with_kernel(Constant)
        assert registry.create("kernel", "constant") == Constant()
        assert registry.create("kernel", {"name": "constant", "value": 2.0}) == Constant(2.0)
        made = Gaussian(0.3)
        assert registry.create("kernel", made) is made

    def test_nested_kernels(self):
        registry = with_kernel(Constant, Gaussian, Linear)
        spec = {"name": "sum", "left": "linear", "right": {"name": "product", "left": "constant", "right": Gaussian(2)}}
        kernel = registry.create("kernel", spec)
        assert kernel == Linear() + Constant() * Gaussian(2)
        assert registry.create("kernel", registry.describe(kernel)) == kernel

    def test_strategies_within_strategies(self):
        registry = with_kernel(Constant, Gaussian)
        registry.register(SimpleNamespace(register_optimizers=hookimpl(lambda: [Still])), "plugin-b")
        spec = {"name": "still", "kernel": "constant", "inner": {"name": "still", "sizes": [3, [4]]}}
        made = registry.create("optimizer", spec)
        assert made == Still(kernel=Constant(), inner=Still(sizes=(3, (4,)))), "lists are made tuples"
        assert registry.create("optimizer", registry.describe(made)) == made

    def test_a_part_is_known_by_its_type_whatever_it_is_called_in_the_text(self, monkeypatch):
        class Near(Kernel):
            """A kind of kernel."""

        for kind in (Kernel | None, Near, "Weigher"):
            made = dataclass(frozen=True)(type("Weighed", (Still,), {"__annotations__": {"kernel": kind}}))
            monkeypatch.setattr(sys.modules[made.__module__], "Weigher", Kernel, raising=False)
            assert parts_of(made)["kernel"] == ("kernel", kind == Kernel | None)

    def test_description_leaves_out_learned_state(self):
        assert Registry.describe(Still(state=object())) == {
            "name": "still",
            "kernel": {"name": "gaussian", "length_scale": 0.5},
            "inner": None,
            "sizes": [1, 2],
        }

    @pytest.mark.parametrize("value", [object(), float("nan"), {1, 2}])
    def test_description_must_be_json(self, value):
        with pytest.raises(SettingError, match=r"'constant'.*field\(repr=False\)"):
            Registry.describe(Constant(value))

    @pytest.mark.parametrize("spec", [None, 3, Constant, FaissKNN(), {"value": 1.0}, {"name": 3}, ["constant"]])
    def test_refuses_what_is_no_specification(self, spec):
        with pytest.raises(
            SettingError, match=r'Expected a kernel as a name.*got .*; write for example \{"name": "con'
        ):
            with_kernel(Constant).create("kernel", spec)

    def test_messages_have_the_right_article(self):
        with pytest.raises(SettingError, match="Expected an optimizer as a name"):
            Registry().create("optimizer", 3)

    def test_unknown_name_suggests_close_ones(self):
        registry = with_kernel(Constant, Gaussian)
        with pytest.raises(
            UnknownNameError, match=r"got 'gausian'; did you mean 'gaussian'\? There are constant, gaussian"
        ):
            registry.create("kernel", "gausian")
        with pytest.raises(
            UnknownNameError, match=r"got 'xyz'; there are .*; take one of these, or install or load the plugin"
        ):
            registry.get("kernel", "xyz")
        with pytest.raises(UnknownNameError, match="there are none; "):
            registry.get("retriever", "faiss-knn")
        with pytest.raises(LookupError):
            registry.get("kernel", "xyz")

    def test_unknown_role(self):
        for use in (
            Registry().names,
            lambda role: Registry().create(role, "x"),
            lambda role: Registry().get(role, "x"),
        ):
            with pytest.raises(
                UnknownNameError, match=r"'kernels'; did you mean 'kernel'\? There are optimizer, kernel"
            ):
                use("kernels")

    def test_unknown_parameter_lists_those_there_are(self):
        registry = with_kernel(Constant, Linear)
        with pytest.raises(SettingError, match=r"'constant', got 'valeu'; did you mean 'value'\? There is value"):
            registry.create("kernel", {"name": "constant", "valeu": 1})
        with pytest.raises(SettingError, match=r"'linear', got 'scale'; there are none; remove it"):
            registry.create("kernel", {"name": "linear", "scale": 1})

    def test_missing_parameter(self):
        with pytest.raises(SettingError, match=r"'sum' with left, right, got no right; write .*\"right\": \.\.\."):
            with_kernel(Constant).create("kernel", {"name": "sum", "left": "constant"})

    def test_a_part_may_be_none_only_where_that_is_the_default(self):
        registry = with_kernel(Constant)
        registry.register(SimpleNamespace(register_optimizers=hookimpl(lambda: [Still])), "plugin-b")
        assert registry.create("optimizer", {"name": "still", "inner": None}) == Still()
        with pytest.raises(SettingError, match=r"Expected a kernel as a name.*got None"):
            registry.create("optimizer", {"name": "still", "kernel": None})

    def test_refused_values_are_the_strategys_own_errors(self):
        with pytest.raises(SettingError, match=r"gaussian\.length_scale"):
            with_kernel(Gaussian).create("kernel", {"name": "gaussian", "length_scale": -1})


class TestLoud:
    """Each way a plugin can go wrong."""

    def refused(self, classes, match):
        registry = with_kernel(Constant)
        before = registry.table()
        with pytest.raises(PluginError, match=match) as caught:
            registry.register(kernels(*classes), "plugin-b")
        assert registry.table() == before, "all of a plugin's strategies, or none"
        registry.register(kernels(Linear), "plugin-b")  # and its name is free again
        assert registry.names("kernel") == ["constant", "linear"]
        return caught.value

    def test_clash_names_both(self):
        other = kernel_class(name="constant", __module__="elsewhere")
        error = self.refused([Linear, other], r"one kernel called 'constant'.*rename")
        assert f"{__name__}.Constant (plugin 'plugin-a')" in str(error)
        assert "elsewhere.Changed (plugin 'plugin-b')" in str(error)

    def test_clash_within_a_plugin(self):
        self.refused([Linear, Linear], r"'linear', got .*plugin-b.* and .*plugin-b")

    @pytest.mark.parametrize("name", ["sum", "product"])
    def test_reserved_name(self, name):
        self.refused([kernel_class(name=name)], f"other than the reserved '{name}'")

    @pytest.mark.parametrize("thing", [FaissKNN, int])
    def test_wrong_base(self, thing):
        self.refused([thing], r"plugin 'plugin-b' to be subclasses of Kernel, got .*return the class itself")

    @pytest.mark.parametrize("thing", [Constant(), "constant", None])
    def test_not_a_class(self, thing):
        self.refused([thing], "subclasses of Kernel, got")

    def test_not_complete(self):
        self.refused([dataclass(frozen=True)(type("Half", (Kernel,), {"name": "half"}))], "got no __call__")

    @pytest.mark.parametrize("name", ["Gaussian", "my_kernel", "my kernel", "", "-x", "1st", None, 3])
    def test_name_not_in_kebab_case(self, name):
        self.refused([kernel_class(name=name)], r"fixed kebab-case name, got .*ClassVar\[str\] = \"my-method\"")

    def test_no_name(self):
        nameless = dataclass(frozen=True)(type("Nameless", (Kernel,), {"__call__": Constant.__call__}))
        self.refused([nameless], "kebab-case name, got None")

    def test_name_that_could_vary(self):
        self.refused([kernel_class(__annotations__={"name": "str"})], "kebab-case name, got a field")

    def test_not_a_frozen_dataclass(self):
        members = {"name": "changed", "__call__": Constant.__call__}
        plain = type("Plain", (Kernel,), members)
        thawed = dataclass(type("Thawed", (Kernel,), members))
        inherited = type("Inherited", (Constant,), {"name": "inherited"})
        for cls in (plain, thawed, inherited):
            self.refused([cls], r"frozen dataclass, got another class; decorate it with @dataclass\(frozen=True\)")

    def test_a_parameter_of_a_type_that_is_not_there_when_it_runs(self):
        said = r"type of Changed\.size to be there when it runs, got 'Elsewhere' .*import it outside of TYPE_CHECKING"
        self.refused([kernel_class(__annotations__={"size": "Elsewhere"}, size=1)], said)
        state = field(default=None, repr=False)
        with_kernel(kernel_class(__annotations__={"state": "Elsewhere"}, state=state)).create("kernel", "changed")

    def test_not_a_list(self):
        self.refused_plugin(SimpleNamespace(register_kernels=hookimpl(lambda: Constant)), r"return a list of classes")
        self.refused_plugin(SimpleNamespace(register_kernels=hookimpl(lambda: None)), r"got None; return \[YourClass\]")

    def refused_plugin(self, plugin, match):
        registry = Registry()
        with pytest.raises(PluginError, match=match) as caught:
            registry.register(plugin, "plugin-b")
        assert "plugin-b" in str(caught.value)
        assert registry.table() == []
        return caught.value

    def test_nothing_registered(self):
        self.refused_plugin(SimpleNamespace(), "at least one strategy, got none; mark a function .*@hookimpl")
        self.refused_plugin(kernels(), "at least one strategy")

    def test_misspelled_hook(self):
        misspelled = SimpleNamespace(
            register_kernel=hookimpl(lambda: [Constant]), register_kernels=hookimpl(lambda: [Constant])
        )
        self.refused_plugin(misspelled, r"among register_optimizers, register_kernels.*unknown hook 'register_kernel'")

    def test_hook_without_its_mark(self):
        forgotten = SimpleNamespace(
            register_kernels=hookimpl(lambda: [Constant]), register_retrievers=lambda: [FaissKNN]
        )
        self.refused_plugin(forgotten, "register_retrievers of plugin 'plugin-b'.*never be called; write @hookimpl")

    def test_hook_with_arguments(self):
        self.refused_plugin(
            SimpleNamespace(register_kernels=hookimpl(lambda model: [])), "without arguments; got: .*model"
        )

    def test_hook_that_raises(self):
        def register_kernels():
            raise ZeroDivisionError("by chance")

        error = self.refused_plugin(
            SimpleNamespace(register_kernels=hookimpl(register_kernels)),
            "plugin 'plugin-b' to work, got ZeroDivisionError in register_kernels, at .*py:.*: by chance; correct",
        )
        assert isinstance(error.__cause__, ZeroDivisionError)

    def test_plugin_twice(self):
        registry, one = Registry(), kernels(Constant)
        registry.register(one, "plugin-a")
        for again, name in ((kernels(Linear), "plugin-a"), (one, "plugin-b")):
            with pytest.raises(PluginError, match=f"each plugin once, got '{name}' again"):
                registry.register(again, name)
        assert registry.names("kernel") == ["constant"]


PLUGIN = """
    from __future__ import annotations
    from dataclasses import dataclass
    from typing import ClassVar
    from c3po_adaptive.hookspecs import hookimpl
    from c3po_adaptive.kernels.base import Kernel

    @dataclass(frozen=True)
    class Ones(Kernel):
        scale: float = 1.0
        name: ClassVar[str] = "ones"

        def __call__(self, x, y):
            return self.scale * (x @ y.T) ** 0

    @hookimpl
    def register_kernels():
        return [Ones]
"""


class TestFile:
    def write(self, folder, text, name="my_kernel.py"):
        file = folder / name
        file.write_text(textwrap.dedent(text))
        return file

    def test_plain_file(self, tmp_path):
        registry, file = Registry(), self.write(tmp_path, PLUGIN)
        registry.load_file(file)
        assert registry.describe(registry.create("kernel", {"name": "ones", "scale": 3})) == {
            "name": "ones",
            "scale": 3,
        }
        assert registry.table()[0].plugin == str(file)
        with pytest.raises(PluginError, match=r"my_kernel\.py' again; .*changed.*new_registry\(\)"):
            registry.load_file(str(file))
        assert registry.names("kernel") == ["ones"]
        assert registry.table()[0].module in sys.modules, "what is there still works"

    def test_files_called_alike_are_two_plugins(self, tmp_path):
        (tmp_path / "other").mkdir()
        registry = Registry()
        registry.load_file(self.write(tmp_path, PLUGIN))
        registry.load_file(self.write(tmp_path / "other", PLUGIN.replace('"ones"', '"more-ones"')))
        assert registry.names("kernel") == ["more-ones", "ones"]
        assert len({entry.module for entry in registry.table()}) == 2

    def test_clash_names_both_files(self, tmp_path):
        registry = Registry()
        registry.load_file(self.write(tmp_path, PLUGIN))
        with pytest.raises(PluginError, match=r"my_kernel\.py.*another\.py"):
            registry.load_file(self.write(tmp_path, PLUGIN, "another.py"))

    @pytest.mark.parametrize("text", ["1 / 0", "import no_such_module", "def :"])
    def test_file_that_raises(self, tmp_path, text):
        registry, modules = Registry(), set(sys.modules)
        with pytest.raises(
            PluginError, match=r"my_kernel\.py' to work, got \w+Error while loading.*(my_kernel\.py:1|line 1)"
        ) as caught:
            registry.load_file(self.write(tmp_path, text))
        assert isinstance(caught.value.__cause__, ZeroDivisionError | ModuleNotFoundError | SyntaxError)
        assert set(sys.modules) == modules, "nothing half-loaded stays"

    @pytest.mark.parametrize("name", ["absent.py", "notes.txt", "."])
    def test_no_such_file(self, tmp_path, name):
        (tmp_path / "notes.txt").write_text("")
        with pytest.raises(PluginError, match=r"Expected a Python file, got .*\.py file"):
            Registry().load_file(tmp_path / name)


INHERITING = """
    from c3po_ones_d import Ones, dataclass, hookimpl

    @dataclass(frozen=True)
    class Threes(Ones):
        "Three everywhere."
        name = "threes"

    @hookimpl
    def register_kernels():
        return [Threes]
    """
MORE = f"""
    {PLUGIN.strip().replace('"ones"', '"more"')}

    @hookimpl
    def register_attacks():
        return {{"more": print}}
    """


class TestInstalled:
    @pytest.fixture
    def install(self, install_package):
        """A function that puts a package with one plugin on the path."""

        def write(module, text, point):
            install_package(module, textwrap.dedent(text), hookspecs.PROJECT, point, module)

        return write

    def test_entry_points(self, install):
        install("c3po_ones_a", PLUGIN, "ones")
        registry = Registry()
        registry.load_installed()
        (entry,) = (entry for entry in registry.table() if entry.plugin == "ones")
        assert (entry.name, entry.module) == ("ones", "c3po_ones_a")
        assert list(registry.files) == ["c3po_ones_a.py"], (
            "our companions are told by the version, as the built-ins are"
        )
        assert "ones" not in registry.ours

    def test_those_that_have_a_part_are_named_or_inherited_from_or_do_more(self, install, tmp_path):
        install("c3po_ones_d", PLUGIN, "ones")
        install("c3po_threes", INHERITING, "threes")
        install("c3po_more", MORE, "more")
        (tmp_path / "mine.py").write_text(textwrap.dedent(PLUGIN).replace('"ones"', '"mine"'))
        registry = new_registry()
        registry.load_file(tmp_path / "mine.py")
        always, ones, threes = {"c3po_more.py", "mine.py"}, "c3po_ones_d.py", "c3po_threes.py"
        assert registry.files.keys() == always | {ones, threes}

        def met(spec):
            return registry.files_of([registry.create("kernel", spec)]).keys() - always

        assert registry.files_of(()).keys() == always
        assert met("gaussian") == set()
        assert met({"name": "sum", "left": "gaussian", "right": "ones"}) == {ones}
        assert met("threes") == {ones, threes}

    @pytest.mark.parametrize(
        ("text", "said"),
        [
            ("1 / 0", "to work, got ZeroDivisionError while loading: division by zero"),
            ("raise SystemExit('my words')", "got SystemExit while loading: my words"),
            (PLUGIN.replace("return [Ones]", "raise SystemExit(3)"), "got SystemExit in register_kernels, at "),
            (PLUGIN.replace("return [Ones]", "return Ones"), "to return a list of classes"),
        ],
    )
    def test_broken_one_is_left_out_and_told_of_where_a_name_is_missing(self, install, text, said):
        install(module := f"c3po_broken_{len(text)}", text, "broken")  # Python loads one of a name
        with pytest.warns(UserWarning, match=rf"left out \(pip uninstall {module}\)") as warned:
            registry = new_registry()
        assert said in str(warned[0].message)
        assert "ngd" in registry.names("optimizer")
        with pytest.raises(UnknownNameError, match="The plugin 'broken' is left out") as caught:
            registry.create("kernel", "ones")
        assert said in str(caught.value)

    def test_two_of_one_name(self, install):
        install("c3po_ones_b", PLUGIN, "ones")
        install("c3po_ones_c", PLUGIN.replace('"ones"', '"twos"'), "ones")
        with pytest.raises(PluginError, match="each plugin once, got 'ones' again"):
            Registry().load_installed()


def test_listing_loads_no_heavy_library():
    code = (
        "import sys, c3po_adaptive\n"
        "from c3po_adaptive.registry import default_registry\n"
        "registry = default_registry(); registry.table()\n"
        "[registry.create('kernel', name) for name in registry.names('kernel')]\n"
        "heavy = {'faiss', 'sklearn', 'scipy', 'captum', 'transformers', 'sentence_transformers', 'matplotlib'}\n"
        "print(*heavy & set(sys.modules))"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout.strip() == ""


def test_a_file_may_import_what_lies_beside_it(tmp_path):
    """And another text of that is another plugin."""
    file = tmp_path / "mine.py"
    file.write_text("from .part import ByPart, hookimpl\n\n\n@hookimpl\ndef register_kernels():\n    return [ByPart]\n")
    found = []
    for value in ("1.0", "20.0"):
        text = textwrap.dedent(PLUGIN).partition("@hookimpl")[0].replace("1.0", value)
        (tmp_path / "part.py").write_text(text.replace("Ones", "ByPart"))
        found.append(Registry())
        found[-1].load_file(file)
    first, second = found
    assert first.files.keys() == second.files.keys() == {"mine.py"}
    assert first.files != second.files
