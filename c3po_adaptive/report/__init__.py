"""What people look at: pages, plots and sentences; from here, what the pages of plugins are made of."""

from .page import draw, finished_summary
from .plots import COLORS, LINE, WIDTH, Mark, cells, color_of, forest, panels, square, standalone, style, svg

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
