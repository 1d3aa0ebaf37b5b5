"""File formats: which are read, what a file is whatever its name says, and the remedy for those that are not read."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import PurePath

from PIL import Image

from sheer.data.pixels import FORMATS

MAX_BYTES = 1 << 30
AS_JPEG = "save it as JPEG or PNG"
FROM_PHONE = "save it as JPEG or PNG (for instance with pillow-heif or your photo program)"
RAW = "develop it to JPEG, PNG or 16-bit TIFF with a raw converter"

UNKNOWN_FORMATS = {
    ".heic": FROM_PHONE,
    ".heif": FROM_PHONE,
    ".avif": AS_JPEG,
    ".jxl": AS_JPEG,
    ".jp2": AS_JPEG,
    ".ico": AS_JPEG,
    ".psd": "export it as PNG",
    ".svg": "draw it as PNG at the size you need",
    ".pdf": "save each page as PNG",
    ".cr2": RAW,
    ".nef": RAW,
    ".arw": RAW,
    ".dng": RAW,
    ".dcm": "save each slice as 16-bit PNG (for instance with pydicom)",
    ".npy": "give arrays to sheer.arrays, or save each as PNG",
    ".mp4": "save the frames you need as JPEG",
    ".mov": "save the frames you need as JPEG",
}

# (where, what stands there, what the file is, the remedy)
SIGNATURES: tuple[tuple[int, bytes, str, str], ...] = (
    *((4, b"ftyp" + brand, "a HEIC picture", FROM_PHONE) for brand in (b"heic", b"heix", b"hevc", b"heim", b"mif1", b"msf1")),
    *((4, b"ftyp" + brand, "an AVIF picture", AS_JPEG) for brand in (b"avif", b"avis")),
    (4, b"ftyp", "a video", "save the frames you need as JPEG"),
    (0, b"\xff\x0a", "a JPEG XL picture", AS_JPEG),
    (4, b"JXL ", "a JPEG XL picture", AS_JPEG),
    (4, b"jP  ", "a JPEG 2000 picture", AS_JPEG),
    (0, b"%PDF", "a PDF document", "save each page as PNG"),
    (0, b"8BPS", "a Photoshop document", "export it as PNG"),
    (0, b"\x00\x00\x01\x00", "an icon", AS_JPEG),
    (0, b"<svg", "an SVG drawing", "draw it as PNG at the size you need"),
    (0, b"<?xml", "an XML document", "put the photograph in its place"),
    (0, b"<!", "a web page", "download the photograph itself"),
    (0, b"<html", "a web page", "download the photograph itself"),
    (0, b"version https://git-lfs", "a Git LFS pointer", "fetch the photographs with git lfs pull"),
    (128, b"DICM", "a DICOM file", "save each slice as 16-bit PNG (for instance with pydicom)"),
    (0, b"\x93NUMPY", "a NumPy array", "give arrays to sheer.arrays, or save each as PNG"),
    (0, b"PK\x03\x04", "a zip archive", "unpack it"),
)

NAMED = {
    "JPEG": (".jpg", ".jpeg"),
    "MPO": (".jpg", ".jpeg"),
    "PNG": (".png",),
    "BMP": (".bmp",),
    "GIF": (".gif",),
    "WEBP": (".webp",),
    "TIFF": (".tif", ".tiff"),
    "PPM": (".ppm", ".pgm"),
}


def check_bytes(size: int) -> None:
    """ValueError where a file is larger than is read at once."""
    if size > MAX_BYTES:
        raise ValueError(f"{size:,} bytes; read are at most {MAX_BYTES:,}: it is no photograph, or save it as JPEG or PNG")


def unread_format(content: bytes) -> str:
    """What a file is that is not read, with the remedy; "" where its first bytes do not tell.

    >>> unread_format(b"%PDF-1.7")
    'it is a PDF document: save each page as PNG'
    """
    if not content:
        return "it is empty: fetch it again, or remove it"
    head = content[:256]
    for where, mark, what, remedy in SIGNATURES:
        if head[where:].startswith(mark):
            return f"it is {what}: {remedy}"
    return ""


def oddities(name: str, content: bytes) -> tuple[bool, str]:
    """`oddities_of` for the bytes of a file of that name."""
    with Image.open(io.BytesIO(content), formats=FORMATS) as picture:
        return oddities_of(name, picture)


def oddities_of(name: str, picture: Image.Image) -> tuple[bool, str]:
    """Whether the photograph has several frames or pages, and its format where its name says another ("" otherwise).

    The second picture that some phones put into a JPEG (MPO) is no frame.
    """
    kind = picture.format or ""
    several = kind != "MPO" and getattr(picture, "is_animated", False)
    return several, "" if PurePath(name).suffix.lower() in NAMED.get(kind, ()) else kind


def told(names: Sequence[str], odd: Sequence[tuple[bool, str]]) -> list[str]:
    """What `oddities_of` the files of these names amounts to, in at most two sentences."""
    sentences = []
    several = [name for name, (frames, _) in zip(names, odd, strict=True) if frames]
    if several:
        files = f"{len(several)} file{'s hold' if len(several) > 1 else ' holds'}"
        sentences.append(f"{files} several frames or pages, such as {several[0]}: the first of each is used.")
    wrong = [(name, kind) for name, (_, kind) in zip(names, odd, strict=True) if kind]
    if wrong:
        files = f"{len(wrong)} file{'s are' if len(wrong) > 1 else ' is'}"
        sentences.append(f"{files} not what the name says, such as {wrong[0][0]}, which is {wrong[0][1]}: read by content.")
    return sentences
