"""Where things are kept between runs."""

from __future__ import annotations

import os
from pathlib import Path

import platformdirs


def cache_folder() -> Path:
    """``$C3PO_CACHE``, else the user's cache folder."""
    return Path(os.environ.get("C3PO_CACHE") or platformdirs.user_cache_dir("c3po_adaptive"))
