"""The pictures of pages and README are small, and the one of tokens by layers is what its program draws."""

import runpy
import shutil

import numpy as np
import pytest
from docs.blocks import ROOT
from PIL import Image

IMAGES = ROOT / "docs" / "images"
PROGRAM = IMAGES / "make_tokens_by_layers.py"
MOST = 80 * 1024  # bytes


def test_each_is_small():
    drawn = [file for file in IMAGES.iterdir() if file.suffix in (".png", ".svg")]
    assert drawn
    assert {file.name: file.stat().st_size for file in drawn if file.stat().st_size > MOST} == {}


@pytest.mark.usefixtures("dense_weights")
def test_tokens_by_layers_is_what_its_program_draws(tmp_path):
    shutil.copy(PROGRAM, tmp_path)
    runpy.run_path(str(tmp_path / PROGRAM.name), run_name="__main__")
    name = "tokens_by_layers.png"
    with Image.open(tmp_path / name) as new, Image.open(IMAGES / name) as old:
        assert abs(new.width - old.width) <= 4, "another version of matplotlib may measure text otherwise"
        ours, theirs = (np.asarray(one.convert("L").resize((600, 180)), float) for one in (new, old))
    assert np.abs(ours - theirs).mean() < 4
