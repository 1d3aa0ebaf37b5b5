"""Fault 9: archives of data sets that mean harm, or are damaged. Whatever they hold, nothing is written outside the new folder."""

import io
import lzma
import resource
import stat
import struct
import tarfile
import zipfile
import zlib
from pathlib import Path

import pytest

import sheer
from conftest import make_photos
from sheer.cli.main import main
from sheer.data import archive
from sheer.errors import DataError


def tar_of(path, *members, mode="w"):
    """A tar of (name, content or settings of the member)."""
    with tarfile.open(path, mode) as tar:
        for name, content in members:
            info = tarfile.TarInfo(name)
            if isinstance(content, dict):
                for key, value in content.items():
                    setattr(info, key, value)
                tar.addfile(info)
            else:
                info.size = len(content)
                tar.addfile(info, io.BytesIO(content))
    return path


def zip_of(path, *members):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as packed:
        for name, content in members:
            info = zipfile.ZipInfo(name)
            info.compress_type = zipfile.ZIP_DEFLATED
            if isinstance(content, int):
                info.external_attr, content = content << 16, b"../target"
            packed.writestr(info, content)
    return path


def refused(path, tmp_path, **options):
    """What the refusal says; nothing but the archive may be there afterwards."""
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(DataError) as caught:
        sheer.extract(path, tmp_path / "out", **options)
    assert sorted(tmp_path.rglob("*")) == before
    return str(caught.value)


NAMES = ["../x.jpg", "a/../../x.jpg", "/tmp/x.jpg", "a\\..\\x.jpg", "C:/x.jpg", "//host/share/x.jpg", "a/" + "n" * 256]


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("make", [tar_of, zip_of])
def test_09_a_path_that_leads_out_of_the_folder(tmp_path, make, name):
    assert "outside the folder" in refused(make(tmp_path / "x.ar", ("a/1.jpg", b"1"), (name, b"2")), tmp_path)


KINDS = {
    "symlink": {"type": tarfile.SYMTYPE, "linkname": "/etc/passwd"},
    "hard link": {"type": tarfile.LNKTYPE, "linkname": "a/1.jpg"},
    "character device": {"type": tarfile.CHRTYPE},
    "block device": {"type": tarfile.BLKTYPE},
    "pipe": {"type": tarfile.FIFOTYPE},
}


@pytest.mark.parametrize("kind", sorted(KINDS))
def test_09_a_link_or_a_device_in_a_tar(tmp_path, kind):
    assert "no use for" in refused(tar_of(tmp_path / "x.tar", ("a/1.jpg", b"1"), ("a/2.jpg", KINDS[kind])), tmp_path)


@pytest.mark.parametrize("mode", [stat.S_IFLNK | 0o777, stat.S_IFCHR | 0o666, stat.S_IFIFO | 0o666])
def test_09_a_link_or_a_device_in_a_zip(tmp_path, mode):
    assert "no use for" in refused(zip_of(tmp_path / "x.zip", ("a/1.jpg", b"1"), ("a/2.jpg", mode)), tmp_path)


@pytest.mark.filterwarnings("ignore:Duplicate name")
@pytest.mark.parametrize("second", ["a/1.jpg", "a/./1.jpg", "a//1.jpg", "a", "a/1.jpg/x"])
@pytest.mark.parametrize("make", [tar_of, zip_of])
def test_09_two_members_of_one_name(tmp_path, make, second):
    assert "twice" in refused(make(tmp_path / "x.ar", ("a/1.jpg", b"1"), (second, b"2")), tmp_path)


@pytest.mark.parametrize("mode", ["w:gz", "w:bz2", "w:xz", "zip"])
def test_09_a_bomb_of_a_thousand_to_one(tmp_path, mode):
    member = ("a/1.jpg", b"\0" * (96 << 20))
    path = zip_of(tmp_path / "x", member) if mode == "zip" else tar_of(tmp_path / "x", member, mode=mode)
    assert path.stat().st_size * 900 < 96 << 20
    assert "bomb" in refused(path, tmp_path)


def test_09_more_than_the_limit_or_than_it_says(tmp_path):
    path = tar_of(tmp_path / "x.tar", ("a/1.jpg", b"1" * 2000), ("b/1.jpg", b"2" * 2000))
    assert "limit=3,000" in refused(path, tmp_path, limit=3000)
    lying = bytearray(zip_of(tmp_path / "y.zip", ("a/1.jpg", b"1" * 2000)).read_bytes())
    at = lying.index(b"PK\x01\x02")
    lying[at + 24 : at + 28] = struct.pack("<I", 10)
    (tmp_path / "y.zip").write_bytes(lying)
    refused(tmp_path / "y.zip", tmp_path)


@pytest.mark.parametrize("mode", ["w", "w:gz"])
def test_09_cut_short_or_damaged_in_the_middle(tmp_path, mode):
    path = tar_of(tmp_path / "x.tar", *((f"a/{n}.jpg", bytes([n]) * 700) for n in range(40)), mode=mode)
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2] if mode != "w" else whole[: 512 * 31])
    refused(path, tmp_path)
    if mode == "w":
        at = whole.index(b"a/20.jpg")
        path.write_bytes(whole[:at] + b"\xff" * 40 + whole[at + 40 :])
        assert "damaged after 20 members" in refused(path, tmp_path)


def test_09_what_is_no_archive_or_in_the_way(tmp_path):
    (tmp_path / "x.zip").write_text("hello")
    assert "neither a zip nor a tar" in refused(tmp_path / "x.zip", tmp_path)
    assert "There is no archive" in refused(tmp_path / "no.zip", tmp_path)
    good = zip_of(tmp_path / "y.zip", ("a/1.jpg", b"1"))
    (tmp_path / "out").mkdir()
    assert "exists" in refused(good, tmp_path)
    with pytest.raises(DataError, match="There is no folder"):
        sheer.extract(good, tmp_path / "no" / "out")
    with pytest.raises(DataError, match=r"is an archive: unpack it with sheer\.extract"):
        sheer.images(good)


def test_09_encrypted_members(tmp_path):
    content = bytearray(zip_of(tmp_path / "x.zip", ("a/1.jpg", b"1")).read_bytes())
    for mark, place in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        content[content.index(mark) + place] |= 1
    (tmp_path / "x.zip").write_bytes(content)
    assert "encrypted" in refused(tmp_path / "x.zip", tmp_path)


def test_09_a_header_that_asks_for_too_much_memory(tmp_path, monkeypatch):
    monkeypatch.setattr(archive, "AT_ONCE", 1000)
    path = tmp_path / "x.tar"
    with tarfile.open(path, "w", format=tarfile.PAX_FORMAT) as tar:
        info = tarfile.TarInfo("a/1.jpg")
        info.pax_headers = {"comment": "x" * 5000}
        tar.addfile(info)
    assert "asks for" in refused(path, tmp_path)


@pytest.mark.parametrize("mode", ["w", "w:gz", "w:bz2", "w:xz", "zip"])
def test_a_good_archive_gives_its_files(tmp_path, mode, capsys):
    photos = make_photos(tmp_path / "photos", {"a": 3, "b b": 3})
    path = tmp_path / "x.archive"
    if mode == "zip":
        with zipfile.ZipFile(path, "w") as packed:
            for file in photos.rglob("*.jpg"):
                packed.write(file, file.relative_to(photos))
    else:
        with tarfile.open(path, mode) as tar:
            tar.add(photos, arcname=".")
    assert main(["extract", str(path), str(tmp_path / "out")]) == 0 and "6 files" in capsys.readouterr().out
    found = {file.relative_to(tmp_path / "out"): file.read_bytes() for file in (tmp_path / "out").rglob("*.jpg")}
    assert found == {file.relative_to(photos): file.read_bytes() for file in photos.rglob("*.jpg")}
    assert sheer.images(tmp_path / "out").classes == ("a", "b b")


def test_09_a_dictionary_of_4_gib_that_the_machine_does_not_have(tmp_path):
    """The header of an .xz says how much memory its reader takes before the first byte comes out."""
    plain = io.BytesIO()
    with tarfile.open(fileobj=plain, mode="w") as tar:
        tar.addfile(tarfile.TarInfo("a.txt"))
    packed = bytearray(lzma.compress(plain.getvalue(), filters=[{"id": lzma.FILTER_LZMA2, "dict_size": 1 << 20}]))
    packed[packed.index(b"\x21\x01") + 2] = 40
    end = 12 + (packed[12] + 1) * 4
    packed[end - 4 : end] = zlib.crc32(bytes(packed[12 : end - 4])).to_bytes(4, "little")
    (tmp_path / "x.tar.xz").write_bytes(packed)
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + (1 << 30), hard))
    try:
        with pytest.raises(DataError, match="MemoryError"):
            archive.extract(tmp_path / "x.tar.xz", tmp_path / "out")
    finally:
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))
    assert [path.name for path in tmp_path.iterdir()] == ["x.tar.xz"]
