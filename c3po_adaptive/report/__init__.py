"""What people look at: pages, plots and sentences; from here, what the pages of plugins are made of."""

from .drawing import COLORS, LINE, WIDTH, cells, color_of, panels, square, standalone, style, svg
from .page import draw, finished_summary
from .plots import Mark, forest

__all__ = [
    "COLORS",
    "LINE",
    "WIDTH",
    "Mark",
    "cells",
    "color_of",
    "draw",
    "finished_summary",
    "forest",
    "panels",
    "square",
    "standalone",
    "style",
    "svg",
]
