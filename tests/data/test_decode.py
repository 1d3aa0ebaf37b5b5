"""The decode rule against arrays written by hand: what each kind of file becomes, and which are refused with a remedy."""

import struct
import zlib

import numpy as np
import pytest
from PIL import Image

import sheer
from conftest import make_photos
from sheer.data import pixels
from sheer.data.formats import UNKNOWN_FORMATS, oddities, unread_format
from sheer.data.pixels import decode
from sheer.errors import DataError

RAMP = np.arange(0, 65536, 257, dtype=np.uint16).reshape(16, 16)
TO_8_BITS = np.repeat((RAMP // 257).astype(np.uint8)[:, :, None], 3, 2)
CORNER = np.zeros((8, 16, 3), np.uint8)
CORNER[:4, :8] = (250, 130, 10)
CORNER[4:, 8:] = (0, 0, 200)
# EXIF orientation -> the stored picture that must be seen as CORNER
STORED = {
    1: lambda seen: seen,
    2: lambda seen: seen[:, ::-1],
    3: lambda seen: seen[::-1, ::-1],
    4: lambda seen: seen[::-1],
    5: lambda seen: seen.transpose(1, 0, 2),
    6: lambda seen: np.rot90(seen, 1),
    7: lambda seen: seen.transpose(1, 0, 2)[::-1, ::-1],
    8: lambda seen: np.rot90(seen, -1),
}


def decoded(path):
    picture = decode(str(path))
    assert picture.mode == "RGB"
    return np.asarray(picture)


def one_colour(path):
    colours = np.unique(decoded(path).reshape(-1, 3), axis=0)
    assert len(colours) == 1
    return colours[0].tolist()


def write_png_16(path, colour_type, values):
    """A PNG of 16 bits a channel, which Pillow does not write in colour."""

    def chunk(kind, content):
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    high, wide = values.shape[:2]
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in values)
    header = struct.pack(">IIBBBBB", wide, high, 16, colour_type, 0, 0, 0)
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b""))


@pytest.mark.parametrize("orientation", sorted(STORED))
@pytest.mark.parametrize("suffix", ["png", "tif", "webp"])
def test_exif_orientation_is_applied_once(tmp_path, orientation, suffix):
    exif = Image.Exif()
    exif[0x0112] = orientation
    options = {"lossless": True} if suffix == "webp" else {}
    Image.fromarray(np.ascontiguousarray(STORED[orientation](CORNER))).save(tmp_path / f"x.{suffix}", exif=exif, **options)
    assert np.array_equal(decoded(tmp_path / f"x.{suffix}"), CORNER)


@pytest.mark.parametrize("orientation", sorted(STORED))
def test_exif_orientation_of_a_jpeg(tmp_path, orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    stored = Image.fromarray(np.ascontiguousarray(STORED[orientation](CORNER)))
    stored.save(tmp_path / "x.jpg", exif=exif, quality=100, subsampling=0)
    assert np.abs(decoded(tmp_path / "x.jpg").astype(int) - CORNER).max() <= 8


@pytest.mark.filterwarnings("ignore:Corrupt EXIF data")
@pytest.mark.parametrize("exif", [b"Exif\0\0garbage!!!!", b"Exif\0\0II*\0\x08\0\0\0\x00\0"])
def test_damaged_exif_is_no_orientation(tmp_path, exif):
    Image.fromarray(CORNER).save(tmp_path / "x.jpg", exif=exif, quality=100, subsampling=0)
    assert decoded(tmp_path / "x.jpg").shape == CORNER.shape


@pytest.mark.parametrize("suffix", ["png", "tif", "pgm"])
def test_16_bit_grey_is_scaled_by_its_range(tmp_path, suffix):
    path = tmp_path / f"x.{suffix}"
    if suffix == "pgm":
        path.write_bytes(b"P5 16 16 65535\n" + RAMP.astype(">u2").tobytes())
    else:
        Image.fromarray(RAMP).save(path)
    assert np.array_equal(decoded(path), TO_8_BITS)


def test_dark_16_bit_grey_stays_dark(tmp_path):
    Image.fromarray(RAMP // 16).save(tmp_path / "x.png")
    assert decoded(tmp_path / "x.png").max() == 16


@pytest.mark.parametrize("channels", [2, 3, 4], ids=["grey and alpha", "colours", "colours and alpha"])
def test_16_bit_colours_give_their_upper_8_bits(tmp_path, channels):
    values = np.repeat(RAMP[:, :, None], channels, 2)
    values[..., 1] //= 2 if channels > 2 else 1
    if channels != 3:
        values[..., -1] = 65535
    write_png_16(tmp_path / "x.png", {2: 4, 3: 2, 4: 6}[channels], values)
    upper = (values >> 8).astype(np.uint8)
    assert np.array_equal(decoded(tmp_path / "x.png"), upper[..., :3] if channels > 2 else np.repeat(upper[..., :1], 3, 2))


@pytest.mark.parametrize("kind", [np.float32, np.int32])
def test_32_bit_numbers_are_scaled_by_their_own_range(tmp_path, kind):
    Image.fromarray((RAMP.astype(np.int64) * 1000 - 5_000_000).astype(kind)).save(tmp_path / "x.tif")
    seen = decoded(tmp_path / "x.tif")
    assert np.array_equal(seen, TO_8_BITS)
    Image.fromarray(np.full((4, 4), 7, kind)).save(tmp_path / "flat.tif")
    assert one_colour(tmp_path / "flat.tif") == [0, 0, 0]


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_what_is_no_number_is_refused(tmp_path, value):
    values = RAMP.astype(np.float32)
    values[3, 3] = value
    Image.fromarray(values).save(tmp_path / "x.tif")
    with pytest.raises(ValueError, match="NaN or infinity: write finite numbers"):
        decode(str(tmp_path / "x.tif"))


FLAT = {
    "cmyk.jpg": (Image.new("CMYK", (8, 8), (255, 0, 0, 0)), {}, [0, 255, 255]),
    "black.jpg": (Image.new("CMYK", (8, 8), (0, 0, 0, 255)), {}, [0, 0, 0]),
    "bit.png": (Image.new("1", (8, 8), 1), {}, [255, 255, 255]),
    "bit.tif": (Image.new("1", (8, 8), 0), {}, [0, 0, 0]),
    "grey.png": (Image.new("L", (8, 8), 77), {}, [77, 77, 77]),
    "half.png": (Image.new("LA", (8, 8), (10, 128)), {}, [132, 132, 132]),
    "clear.png": (Image.new("RGBA", (8, 8), (10, 20, 30, 0)), {}, [255, 255, 255]),
    "solid.png": (Image.new("RGBA", (8, 8), (10, 20, 30, 255)), {}, [10, 20, 30]),
    "rgba.png": (Image.new("RGBA", (8, 8), (10, 20, 30, 128)), {}, [132, 137, 142]),
    "rgba.webp": (Image.new("RGBA", (8, 8), (10, 20, 30, 128)), {"lossless": True, "exact": True}, [132, 137, 142]),
    "key.png": (Image.new("RGB", (8, 8), (1, 2, 3)), {"transparency": (1, 2, 3)}, [255, 255, 255]),
    "key-grey.png": (Image.new("L", (8, 8), 7), {"transparency": 7}, [255, 255, 255]),
}


@pytest.mark.parametrize("name", sorted(FLAT))
def test_colour_spaces_and_transparency(tmp_path, name):
    picture, options, wanted = FLAT[name]
    picture.save(tmp_path / name, **options)
    assert one_colour(tmp_path / name) == wanted


@pytest.mark.parametrize("suffix", ["png", "gif"])
@pytest.mark.parametrize("alpha", [None, 1, b"\xff\x80"], ids=["no", "key", "table"])
def test_palettes(tmp_path, suffix, alpha):
    if suffix == "gif" and isinstance(alpha, bytes):
        pytest.skip("GIF has one clear colour, no table of them")
    picture = Image.new("P", (8, 8), 1)
    picture.putpalette([0, 0, 0, 200, 100, 50])
    picture.putpixel((0, 0), 0)
    picture.save(tmp_path / f"x.{suffix}", **({} if alpha is None else {"transparency": alpha}))
    wanted = {None: [200, 100, 50], 1: [255, 255, 255], b"\xff\x80": [227, 177, 152]}[alpha]
    seen = decoded(tmp_path / f"x.{suffix}")
    assert seen[0, 0].tolist() == [0, 0, 0] and seen[4, 4].tolist() == wanted


@pytest.mark.parametrize("name", ["x.gif", "x.webp", "x.png", "x.tif"])
def test_of_several_frames_the_first(tmp_path, name):
    first, second = Image.new("RGB", (8, 8), (255, 0, 0)), Image.new("RGB", (8, 8), (0, 0, 255))
    options = {"lossless": True} if name == "x.webp" else {}
    first.save(tmp_path / name, save_all=True, append_images=[second], **options)
    assert one_colour(tmp_path / name) == [255, 0, 0]
    assert oddities(name, (tmp_path / name).read_bytes()) == (True, "")


def test_the_second_picture_of_a_phone_is_no_frame(tmp_path):
    Image.new("RGB", (8, 8), "red").save(tmp_path / "x.mpo", save_all=True, append_images=[Image.new("RGB", (8, 8), "blue")])
    assert np.abs(decoded(tmp_path / "x.mpo").astype(int) - (255, 0, 0)).max() <= 2
    assert oddities("x.jpg", (tmp_path / "x.mpo").read_bytes()) == (False, "")


def test_a_wrong_name_is_noticed_and_read_by_content(tmp_path):
    Image.fromarray(CORNER).save(tmp_path / "x.jpg", format="PNG")
    assert np.array_equal(decoded(tmp_path / "x.jpg"), CORNER)
    assert oddities("x.jpg", (tmp_path / "x.jpg").read_bytes()) == (False, "PNG")


def test_the_pixel_cap(tmp_path, monkeypatch):
    Image.fromarray(CORNER).save(tmp_path / "x.png")
    monkeypatch.setattr(pixels, "MAX_PIXELS", 127)
    with pytest.raises(ValueError, match="16 x 8 pixels; read are at most 127"):
        decode(str(tmp_path / "x.png"))


@pytest.mark.parametrize("size", [(20_000, 10_000), (1, 100_000)], ids=["bomb", "thread"])
def test_what_would_fill_the_memory_is_refused_before_it_does(tmp_path, size):
    Image.new("1", size).save(tmp_path / "x.png")
    with pytest.raises((ValueError, Image.DecompressionBombError), match="pixels"):
        decode(str(tmp_path / "x.png"))


@pytest.mark.parametrize("resize", ["crop", "pad", "squish"])
@pytest.mark.parametrize("size", [(1, 1), (200, 1), (3, 200)])
def test_odd_shapes_become_squares(tmp_path, size, resize):
    Image.new("RGB", size, (9, 8, 7)).save(tmp_path / "x.png")
    rule = pixels.RESIZES[resize](
        **{"crop": {"fraction": 0.875}, "pad": {"padding": "reflection"}, "squish": {}}[resize], interpolation="bicubic"
    )
    square = rule.cut(rule.presize(decode(str(tmp_path / "x.png")), 32), 32, (0.5, 0.5))
    assert square.shape == (32, 32, 3) and np.all(square == (9, 8, 7))


CONTENTS = {
    "HEIC": (b"\0\0\0\x18ftypheic\0\0\0\0mif1heic", "HEIC picture: save it as JPEG"),
    "AVIF": (b"\0\0\0\x18ftypavif\0\0\0\0", "AVIF picture: save it as JPEG"),
    "video": (b"\0\0\0\x18ftypisom\0\0\0\0", "video: save the frames"),
    "web page": (b"<!DOCTYPE html><html>", "web page: download the photograph"),
    "LFS": (b"version https://git-lfs.github.com/spec/v1\n", "git lfs pull"),
    "DICOM": (b"\0" * 128 + b"DICM", "DICOM file: save each slice as 16-bit PNG"),
    "empty": (b"", "it is empty"),
}


@pytest.mark.parametrize("kind", sorted(CONTENTS))
def test_a_file_of_another_kind_under_a_photographs_name(tmp_path, kind):
    content, wanted = CONTENTS[kind]
    assert wanted in unread_format(content)
    folder = make_photos(tmp_path / "photos", {"a": 4, "b": 4})
    (folder / "b" / "002.jpg").write_bytes(content)
    learn = sheer.learner(sheer.images(folder), "resnet18", weights="none", size=32, batch_size=2, quiet=True)
    with pytest.raises(DataError) as caught:
        learn.fit(1)
    assert wanted in str(caught.value) and "b/002.jpg" in str(caught.value)


def test_what_the_first_bytes_do_not_tell_is_left_to_pillow():
    assert unread_format(b"hello") == ""


@pytest.mark.parametrize("suffix", sorted(UNKNOWN_FORMATS))
def test_a_name_of_another_format_has_its_remedy(tmp_path, suffix):
    folder = make_photos(tmp_path / "photos", {"a": 2, "b": 2})
    (folder / "a" / f"x{suffix}").write_bytes(b"")
    with pytest.raises(DataError, match="is no photograph by its name") as caught:
        sheer.images(folder)
    assert UNKNOWN_FORMATS[suffix] in str(caught.value)
