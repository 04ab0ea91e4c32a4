"""Pictures: files or images in memory, read in one way, and identified by what they show."""

from __future__ import annotations

import warnings
from functools import cached_property
from hashlib import sha256
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from ..errors import DataError
from .files import waits

if TYPE_CHECKING:
    from PIL.Image import Image


class Picture:
    """A picture of a question; equal to any other that shows the same, pixel by pixel.

    Args:
        source: the path of a file, the bytes of one, or an image of PIL.

    Raises:
        DataError: it is something else.
    """

    def __init__(self, source: Picture | str | Path | bytes | Image) -> None:
        self.source: Any = source.source if isinstance(source, Picture) else source
        if not isinstance(self.source, str | Path | bytes):
            from PIL.Image import Image

            if not isinstance(self.source, Image):
                raise DataError(
                    f"Expected pictures as paths or images of PIL, got {type(source).__name__}; give images=(…,), of "
                    "an array PIL.Image.fromarray(array)."
                )

    def __repr__(self) -> str:
        return f"Picture({str(self.source)!r})" if isinstance(self.source, str | Path) else f"Picture({self.digest!r})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Picture) and self.digest == other.digest

    def __hash__(self) -> int:
        return hash(self.digest)

    @cached_property
    def digest(self) -> str:
        """Of its size and pixels: the same of a file and of its copy in memory, in whatever format."""
        image = self.read()
        return sha256(repr(image.size).encode() + image.tobytes()).hexdigest()[:32]

    def read(self) -> Image:
        """The image in RGB, the right way up; of 16 bits the upper 8.

        Raises:
            DataError: there is no such file, it is no picture or a broken one, its values do not fit 8 bits, or it
                claims more pixels than PIL decodes without a warning (some 90 million).
        """
        from PIL import Image, ImageOps

        try:
            with warnings.catch_warnings():
                warnings.simplefilter("error", Image.DecompressionBombWarning)
                if not isinstance(self.source, str | Path | bytes):
                    return _in_rgb(ImageOps.exif_transpose(self.source))
                if not isinstance(self.source, bytes) and waits(self.source):
                    raise OSError("a pipe or a device, and no file")
                file = BytesIO(self.source) if isinstance(self.source, bytes) else self.source
                with Image.open(file) as opened:
                    return _in_rgb(ImageOps.exif_transpose(opened))
        except (Image.DecompressionBombWarning, Image.DecompressionBombError) as error:
            raise DataError(
                f"Expected a picture that fits in memory at {self._place}, got: {error} Shrink it."
            ) from None
        except FileNotFoundError:
            raise DataError(
                f"Expected a picture at {self._place}, which there is not; paths in a question file are relative to it."
            ) from None
        except (OSError, ValueError, SyntaxError) as error:  # what PIL raises of broken PNG files
            raise DataError(
                f"Expected a picture at {self._place}, got: {error}; give a PNG, a JPEG or another format of PIL."
            ) from None

    def png(self) -> bytes:
        """The bytes of a PNG file that shows the same."""
        written = BytesIO()
        self.read().save(written, "PNG")
        return written.getvalue()

    @property
    def _place(self) -> str:
        return str(self.source) if isinstance(self.source, str | Path) else "memory"


def _in_rgb(image: Image) -> Image:
    """With 8 bits a color; PIL's ``convert`` alone would cut larger values to white.

    Raises:
        ValueError: values that 8 bits do not hold, and of which it is not known how large they may be.
    """
    if image.mode.startswith("I;16"):
        image = image.convert("I").point(lambda value: value * (1 / 256))
    elif image.mode in ("I", "F"):
        low, high = image.getextrema()
        if cast(float, low) < 0 or cast(float, high) > 255:
            raise ValueError(f"values from {low} to {high} where 0 to 255 are read; scale them")
    return image.convert("RGB")
