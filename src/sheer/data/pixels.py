"""Pixels: one decode rule, and how a picture of any shape becomes a square. Training, validation and prediction share it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, BinaryIO

import numpy as np
from PIL import Image, ImageOps

MAX_PIXELS = 100_000_000
FORMATS = ("JPEG", "PNG", "BMP", "GIF", "WEBP", "TIFF", "PPM")


def decode(file: str | BinaryIO) -> Image.Image:
    """The picture in `file` (a path, or the opened file) as upright 8-bit RGB; of several frames the first.

    The EXIF orientation is applied. 16-bit grey is scaled from 0 .. 65535; of 16-bit colours the upper 8
    bits are taken; 32-bit numbers (TIFF, PFM) are scaled from their own lowest and highest value. What is
    transparent is laid over white; CMYK is converted by Pillow without a profile.

    Raises OSError, ValueError or one of Pillow's own where the file is no picture, is cut short, has over
    100 million pixels, is over 200 times as long as wide, or holds NaN or infinity.
    """
    with Image.open(file, formats=FORMATS) as picture:
        if picture.width * picture.height > MAX_PIXELS or max(picture.size) > 200 * min(picture.size):
            raise ValueError(f"{picture.width} x {picture.height} pixels; read are at most {MAX_PIXELS:,}, and no side 200 times the other")
        picture.load()
        return to_rgb(picture)


def to_rgb(picture: Image.Image) -> Image.Image:
    """A loaded picture of any mode as upright 8-bit RGB, by the rules of `decode`."""
    upright = ImageOps.exif_transpose(picture)
    if upright.mode.startswith("I") or upright.mode == "F":
        values = np.asarray(upright).astype(np.float64)
        if not np.isfinite(values).all():
            raise ValueError("it holds NaN or infinity: write finite numbers in their place")
        own_range = upright.mode == "F" or (upright.mode == "I" and picture.format == "TIFF")
        low, high = (values.min(), values.max()) if own_range else (0.0, 65535.0)
        upright = Image.fromarray(((values - low) * (255 / max(high - low, 1e-12)) + 0.5).astype(np.uint8))
    if upright.has_transparency_data:
        upright = Image.alpha_composite(Image.new("RGBA", upright.size, "white"), upright.convert("RGBA"))
    return upright.convert("RGB")


@dataclass(frozen=True, kw_only=True)
class Crop:
    """Bring the short side to floor(size / fraction), keeping the shape; then cut a square of `size` from it."""

    fraction: float
    interpolation: str
    join = staticmethod(np.stack)

    def presize(self, picture: Image.Image, size: int) -> np.ndarray:
        """The whole picture at its working size, uint8 (H, W, 3), anti-aliased."""
        short = max(int(size / self.fraction), size)
        factor = short / min(picture.size)
        wide, high = (max(round(side * factor), short) for side in picture.size)
        if wide * high > MAX_PIXELS:
            raise ValueError(f"{picture.width} x {picture.height} would be {wide} x {high} pixels at its working size; squish it instead")
        return np.asarray(picture.resize((wide, high), Image.Resampling[self.interpolation.upper()]))

    def cut(self, pixels: np.ndarray, size: int, place: Sequence[float]) -> np.ndarray:
        """The square of `size` whose upper left corner lies at the share `place` (x, y, ...) of the room there is."""
        left = min(int(place[0] * (pixels.shape[1] - size + 1)), pixels.shape[1] - size)
        top = min(int(place[1] * (pixels.shape[0] - size + 1)), pixels.shape[0] - size)
        return pixels[top : top + size, left : left + size]


@dataclass(frozen=True, kw_only=True)
class Squish:
    """Bring both sides to `size`, whatever the shape."""

    interpolation: str
    join = staticmethod(np.stack)

    def presize(self, picture: Image.Image, size: int) -> np.ndarray:
        """The squeezed picture, uint8 (size, size, 3), anti-aliased."""
        return np.asarray(picture.resize((size, size), Image.Resampling[self.interpolation.upper()]))

    def cut(self, pixels: np.ndarray, size: int, place: Sequence[float]) -> np.ndarray:
        """The picture as it is: it is square already."""
        return pixels


@dataclass(frozen=True, kw_only=True)
class Pad:
    """Bring the long side to `size`, keeping the shape; then fill up the smallest square around it.

    `padding` is "reflection", which goes on with the picture's own mirror image, or "zeros", which is black.

    >>> Pad(padding="zeros", interpolation="bilinear").cut(np.ones((1, 3, 3), np.uint8), 3, (0.5, 0.5))[..., 0].tolist()
    [[0, 0, 0], [1, 1, 1], [0, 0, 0]]
    """

    padding: str
    interpolation: str
    join = staticmethod(np.stack)

    def presize(self, picture: Image.Image, size: int) -> np.ndarray:
        """The whole picture with its long side at `size`, uint8 (H, W, 3), anti-aliased."""
        wide, high = (max(round(side * size / max(picture.size)), 1) for side in picture.size)
        return np.asarray(picture.resize((wide, high), Image.Resampling[self.interpolation.upper()]))

    def cut(self, pixels: np.ndarray, size: int, place: Sequence[float]) -> np.ndarray:
        """The square of `size` around the picture, which lies at the share `place` (x, y) of the room there is."""
        left, top = (min(int(share * (size - side + 1)), size - side) for share, side in zip(place[:2], pixels.shape[1::-1], strict=True))
        around = ((top, size - pixels.shape[0] - top), (left, size - pixels.shape[1] - left), (0, 0))
        return np.pad(pixels, around, mode="constant" if self.padding == "zeros" else "reflect")


@dataclass(frozen=True, kw_only=True)
class Luma:
    """Another resize rule, and then grey: luma of red, green and blue with ITU-R BT.601's weights, as Pillow makes it.

    A picture that is grey already keeps its values.

    >>> crop = Crop(fraction=1.0, interpolation="bilinear")
    >>> Luma(rule=crop).cut(np.full((1, 1, 3), 7, np.uint8), 1, (0.5, 0.5)).tolist()
    [[[7]]]
    """

    rule: Any

    def presize(self, picture: Image.Image, size: int) -> np.ndarray:
        """The picture at the working size that `rule` gives it, still coloured."""
        return np.asarray(self.rule.presize(picture, size))

    def cut(self, pixels: np.ndarray, size: int, place: Sequence[float]) -> np.ndarray:
        """What `rule` cuts, uint8 (H, W, 1); what it has behind the three colours stays behind."""
        square = self.rule.cut(pixels, size, place)
        luma = (square[..., :3].astype(np.uint32) @ np.array([19595, 38470, 7471], np.uint32) + 0x8000) >> 16
        return np.concatenate([luma[..., None].astype(np.uint8), square[..., 3:]], 2)

    def join(self, pictures: Sequence[np.ndarray]) -> np.ndarray:
        """The pictures joined as `rule` does it."""
        return np.asarray(self.rule.join(pictures))


RESIZES = {"crop": Crop, "pad": Pad, "squish": Squish}
