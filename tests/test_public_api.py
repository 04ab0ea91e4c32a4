"""What others rely on: every public name with its signature, as ``tests/public_api.txt`` lists it.

A change here is one that users feel: ``python tests/test_public_api.py`` writes the list anew.
"""

import enum
import inspect
import re
from dataclasses import fields, is_dataclass
from pathlib import Path

import c3po_adaptive
import c3po_adaptive.analysis
import c3po_adaptive.attribution
import c3po_adaptive.models.traced
import c3po_adaptive.pictures
import c3po_adaptive.report
import c3po_adaptive.study
import c3po_adaptive.tasks
import c3po_adaptive.testing

MODULES = (
    c3po_adaptive,
    c3po_adaptive.analysis,
    c3po_adaptive.attribution,
    c3po_adaptive.models.traced,
    c3po_adaptive.pictures,
    c3po_adaptive.report,
    c3po_adaptive.study,
    c3po_adaptive.tasks,
    c3po_adaptive.testing,
)
PUBLIC = {
    getattr(module, name) for module in MODULES for name in module.__all__ if name[0].isupper() and not name.isupper()
}
LIST = Path(__file__).with_name("public_api.txt")


def lines():
    for module in MODULES:
        for name in module.__all__:
            yield from described(f"{module.__name__}.{name}", getattr(module, name))


def described(path, value):
    if inspect.isclass(value):
        yield f"class {path}({', '.join(base.__name__ for base in value.__bases__ if base is not object)})"
        if is_dataclass(value):
            yield from (f"  {path}.{f.name}: {f.type}" for f in fields(value) if not f.name.startswith("_"))
        for name, member in sorted(members(value).items()):
            if not name.startswith("_") and not isinstance(value, enum.EnumMeta):
                yield from (f"  {line}" for line in member_of(f"{path}.{name}", member))
    elif callable(value):
        yield f"def {path}{inspect.signature(value)}"
    else:
        yield f"{path}: {type(value).__name__}"


def members(value):
    """Its own, and those of bases of ours that are not public themselves."""
    bases = [base for base in value.__mro__[1:] if base.__module__.startswith("c3po_adaptive") and base not in PUBLIC]
    return {name: member for kind in (*reversed(bases), value) for name, member in vars(kind).items()}


def member_of(path, member):
    if isinstance(member, staticmethod | classmethod):
        yield f"{type(member).__name__} {path}{inspect.signature(member.__func__)}"
    elif isinstance(member, property) or type(member).__name__ == "cached_property":
        yield f"property {path}"
    elif inspect.isfunction(member) and "matplotlib" not in member.__module__:  # which writes a figure's set()
        yield f"def {path}{inspect.signature(member)}"


def text():
    return re.sub(r" at 0x\w+", "", "".join(line + "\n" for line in lines()))


def test_the_list_is_what_there_is():
    assert text() == LIST.read_text(), "write it anew by: python tests/test_public_api.py, and tell users"


def test_every_name_is_documented():
    for module in MODULES:
        undocumented = [name for name in module.__all__ if not inspect.getdoc(getattr(module, name))]
        assert undocumented == []


if __name__ == "__main__":
    LIST.write_text(text())
