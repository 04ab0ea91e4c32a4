"""Pictures are told apart by what they show; a bad one is refused with its place."""

import numpy as np
import pytest
from PIL import Image

from c3po_adaptive.errors import DataError
from c3po_adaptive.storage.picture_file import Picture


def test_the_same_pixels_are_the_same_picture(tmp_path):
    image = Image.new("RGB", (3, 2), (200, 30, 7))
    image.putpixel((1, 1), (0, 0, 0))
    image.save(tmp_path / "one.png")
    image.save(tmp_path / "two.bmp")
    found = {Picture(image), Picture(tmp_path / "one.png"), Picture(str(tmp_path / "two.bmp")), Picture(Picture(image))}
    assert found == {Picture(Picture(image).png())}
    image.putpixel((1, 1), (0, 0, 1))
    assert Picture(tmp_path / "one.png") != Picture(image)
    assert Picture(Image.new("RGB", (2, 3))) != Picture(Image.new("RGB", (3, 2))), "the shape counts"


def test_any_mode_is_read_as_rgb_the_right_way_up(tmp_path):
    image = Image.new("L", (3, 2), 9)
    exif = image.getexif()
    exif[0x0112] = 6  # turned by the camera
    image.save(tmp_path / "turned.png", exif=exif)
    assert (Picture(tmp_path / "turned.png").read().mode, Picture(tmp_path / "turned.png").read().size) == (
        "RGB",
        (2, 3),
    )


def test_more_than_8_bits_are_not_cut_to_white(tmp_path):
    for order in ("<", ">"):
        pixels = np.array([[0, 300, 40000, 65535]], f"{order}u2")
        image = Image.frombytes("I;16" if order == "<" else "I;16B", (4, 1), pixels.tobytes())
        image.save(tmp_path / "deep.png")
        for picture in (Picture(image), Picture(tmp_path / "deep.png")):
            assert np.asarray(picture.read())[0, :, 0].tolist() == [0, 1, 156, 255]
    assert np.asarray(Picture(Image.fromarray(np.array([[0, 255]], np.int32))).read())[0, :, 0].tolist() == [0, 255]
    for wrong in (np.array([[0, 256]], np.int32), np.array([[-1, 9]], np.float32)):
        with pytest.raises(DataError, match=r"at memory, got: values from .* where 0 to 255 are read; scale them"):
            Picture(Image.fromarray(wrong)).read()


def test_bad_ones_are_refused(tmp_path, monkeypatch):
    for wrong in (3, np.zeros((2, 2, 3), np.uint8), memoryview(b"ab")):
        with pytest.raises(DataError, match=f"images of PIL, got {type(wrong).__name__}"):
            Picture(wrong)
    with pytest.raises(DataError, match=r"a picture at .*none\.png, which there is not"):
        Picture(tmp_path / "none.png").read()
    (tmp_path / "text.png").write_text("no picture")
    with pytest.raises(DataError, match=r"a picture at .*text\.png, got: cannot identify"):
        Picture(tmp_path / "text.png").read()
    Image.effect_noise((64, 64), 90).save(tmp_path / "whole.png")
    (tmp_path / "cut.png").write_bytes((tmp_path / "whole.png").read_bytes()[:2000])
    with pytest.raises(DataError, match=r"a picture at .*cut\.png, got: .*truncated"):
        Picture(tmp_path / "cut.png").read()
    for limit in (3000, 1000):  # PIL warns of the first, and refuses the second
        monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", limit)
        with pytest.raises(DataError, match=r"fits in memory at .*whole\.png, got: Image size .4096 pixels"):
            Picture(tmp_path / "whole.png").read()
