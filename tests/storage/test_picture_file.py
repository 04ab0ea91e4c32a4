"""Pictures are told apart by what they show; a bad one is refused with its place."""

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


def test_bad_ones_are_refused(tmp_path, monkeypatch):
    with pytest.raises(DataError, match="images of PIL, got int"):
        Picture(3)
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
