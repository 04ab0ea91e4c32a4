"""How the pages are built: ``sphinx-build -W docs build/docs``. Nothing is downloaded."""

import importlib.metadata
import sys
from pathlib import Path

import c3po_audit

for name in c3po_audit.__all__:  # now: autodoc imports as type checkers do, where pydantic makes no models
    getattr(c3po_audit, name)

sys.path.insert(0, str(Path(__file__).parent / "_ext"))

project = "c3po_adaptive"
author = copyright = "The c3po_adaptive contributors"
release = importlib.metadata.version("c3po_adaptive")

extensions = [
    *("myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"),
    *(
        "command_line",
        "configuration",
        "mathml",
        "not_run",
        "public_names",
        "strategies",
        "results",
        "families",
        "bed",
        "benchmarks",
        "trace_format",
    ),
]
exclude_patterns = ["_ext"]

myst_enable_extensions = ["dollarmath", "deflist"]
myst_heading_anchors = 3
smartquotes_action = "q"  # --out is an option

autodoc_typehints_format = "short"
autodoc_member_order = "bysource"
python_use_unqualified_type_names = True
napoleon_custom_sections = [("Attributes", "params_style")]  # of dataclasses
add_module_names = False

html_theme = "furo"
html_title = "c3po_adaptive"
html_math_renderer = "mathml"
html_static_path = ["_static"]
html_css_files = ["pages.css"]
html_show_sourcelink = False
