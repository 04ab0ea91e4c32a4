"""Configurations as the command line reads them."""

from c3po_adaptive.study.comparison import STUDY
from c3po_adaptive.study.kind import read_study


def load_config(path, settings=()):
    """Of a file of any kind; None: a comparison of which nothing is said."""
    return STUDY.parse({}, settings) if path is None else read_study(path, settings)[1]


def parse_config(raw):
    """Of a comparison's plain values."""
    return STUDY.parse(raw)
