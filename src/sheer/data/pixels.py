"""Pixels: one decode rule, and how a picture of any shape becomes a square. Training, validation and prediction share it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageOps

MAX_PIXELS = 100_000_000
FORMATS = ("JPEG", "PNG", "BMP", "GIF", "WEBP", "TIFF", "PPM")
FILTERS = {name: Image.Resampling[name.upper()] for name in ("nearest", "bilinear", "bicubic", "lanczos")}


def decode(path: str) -> Image.Image:
    """The picture in `path` as upright 8-bit RGB; of several frames the first.

    The EXIF orientation is applied; 16-bit grey is scaled from 0 .. 65535, floats from their own
    range; transparency is laid over white; CMYK is converted by Pillow without a profile.

    Raises OSError or ValueError where the file is no picture, is cut short or has over 100 million pixels.
    """
    with Image.open(path, formats=FORMATS) as picture:
        if picture.width * picture.height > MAX_PIXELS:
            raise ValueError(f"{picture.width} x {picture.height} pixels; at most {MAX_PIXELS:,} are read")
        picture.load()
        upright = ImageOps.exif_transpose(picture)
    if upright.mode.startswith("I") or upright.mode == "F":
        values = np.asarray(upright).astype(np.float64)
        low, high = (float(values.min()), float(values.max())) if upright.mode == "F" else (0.0, 65535.0)
        scaled = (values - low) * (255.0 / max(high - low, 1e-12))
        upright = Image.fromarray(np.clip(scaled + 0.5, 0, 255).astype(np.uint8))
    if upright.mode in ("RGBA", "LA", "PA", "La", "RGBa") or "transparency" in upright.info:
        upright = upright.convert("RGBA")
        white = Image.new("RGBA", upright.size, (255, 255, 255, 255))
        upright = Image.alpha_composite(white, upright)
    return upright.convert("RGB")


@dataclass(frozen=True, kw_only=True)
class Crop:
    """Bring the short side to floor(size / fraction), keeping the shape; then cut a square of `size` from it."""

    fraction: float
    interpolation: str

    def presize(self, picture: Image.Image, size: int) -> np.ndarray:
        """The whole picture at its working size, uint8 (H, W, 3), anti-aliased."""
        short = max(int(size / self.fraction), size)
        factor = short / min(picture.size)
        wide, high = (max(round(side * factor), short) for side in picture.size)
        return np.asarray(picture.resize((wide, high), FILTERS[self.interpolation]))

    def cut(self, pixels: np.ndarray, size: int, place: tuple[float, float]) -> np.ndarray:
        """The square of `size` whose upper left corner lies at the share `place` (x, y) of the room there is."""
        left = min(int(place[0] * (pixels.shape[1] - size + 1)), pixels.shape[1] - size)
        top = min(int(place[1] * (pixels.shape[0] - size + 1)), pixels.shape[0] - size)
        return pixels[top : top + size, left : left + size]


@dataclass(frozen=True, kw_only=True)
class Squish:
    """Bring both sides to `size`, whatever the shape."""

    interpolation: str

    def presize(self, picture: Image.Image, size: int) -> np.ndarray:
        """The squeezed picture, uint8 (size, size, 3), anti-aliased."""
        return np.asarray(picture.resize((size, size), FILTERS[self.interpolation]))

    def cut(self, pixels: np.ndarray, size: int, place: tuple[float, float]) -> np.ndarray:
        """The picture as it is: it is square already."""
        return pixels


RESIZES = {"crop": Crop, "squish": Squish}
