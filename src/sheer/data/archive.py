"""Archives of data sets, unpacked by our own checks: every member is judged before a byte is written."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import os
import shutil
import stat
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PureWindowsPath
from typing import Any, BinaryIO

from sheer.errors import DataError, first_line

LIMIT = 100 << 30
RATIO = 200
FREE_BYTES = 64 << 20
MEMBERS = 2_000_000
AT_ONCE = 16 << 20
BLOCK = 1 << 20

# what the readers of the standard library raise for bytes that are no archive, or a damaged one
DAMAGED = (
    *(tarfile.TarError, zipfile.BadZipFile, zlib.error, lzma.LZMAError, struct.error),
    *(EOFError, OSError, ValueError, NotImplementedError, RuntimeError, OverflowError, IndexError, KeyError, MemoryError),
)
COMPRESSED: dict[bytes, Any] = {b"\x1f\x8b": gzip.GzipFile, b"BZh": bz2.BZ2File, b"\xfd7zXZ\0": lzma.LZMAFile}


@dataclass(frozen=True, kw_only=True)
class Member:
    """One entry of an archive: its name as written, its size once unpacked, whether it is a folder, and how to read it."""

    name: str
    size: int
    folder: bool
    open: Callable[[], BinaryIO]


class _Guard(io.RawIOBase):
    """A stream that ends with DataError where more is read than `allowed` bytes, or very much at once: a bomb is no data."""

    def __init__(self, inner: BinaryIO, allowed: int, what: str) -> None:
        self.inner, self.allowed, self.what = inner, allowed, what

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self.inner.tell()

    def seek(self, place: int, whence: int = 0) -> int:
        if whence != 0 or place > self.allowed:
            raise DataError(self.what)
        return self.inner.seek(place)

    def read(self, size: int = -1) -> bytes:
        if size < 0 or size > AT_ONCE:
            raise DataError(f"{self.what} (one of its headers asks for {size:,} bytes)")
        content = self.inner.read(size)
        if self.inner.tell() > self.allowed:
            raise DataError(self.what)
        return content


def extract(archive: str | Path, folder: str | Path, *, limit: int = LIMIT) -> Path:
    """Unpack a .zip or .tar (plain, .gz, .bz2, .xz) of a data set into the new folder `folder`, and return it.

    All members are looked at first; then they are written into a folder beside `folder`, which gets its name when
    every byte is there. Nothing is overwritten, and nothing is ever written elsewhere.

    Args:
        archive: The file.
        folder: Where it goes: a name that is not taken.
        limit: The most bytes that its members may have together.

    Raises:
        DataError: the folder exists; or the archive is none, is damaged, or holds what a data set has no use for:
            a path that leads out of the folder, a link, a device, two members of one name, encrypted members,
            more bytes than `limit` or than 200 times its own size (from 64 MiB on), over 2 million members.
    """
    source, target = Path(archive).expanduser(), Path(folder).expanduser()
    if not source.is_file():
        raise DataError(f"There is no archive {str(archive)!r}.")
    if target.exists() or target.is_symlink():
        raise DataError(f"{folder} exists. Nothing was overwritten: give a new name.")
    if not target.absolute().parent.is_dir():
        raise DataError(f"There is no folder {target.absolute().parent} to make {target.name} in. Make it, or give another name.")
    allowed = min(limit, max(RATIO * source.stat().st_size, FREE_BYTES))
    half = target.with_name(f".{target.name}.{os.getpid()}.part")
    try:
        with _members(source, allowed) as members:
            check_members(members, allowed, limit)
            free = shutil.disk_usage(target.absolute().parent).free
            if sum(member.size for member in members) > free:
                raise DataError(f"{archive} needs {sum(member.size for member in members):,} bytes; the disk has {free:,} free.")
            half.mkdir()
            for member in members:
                _write(member, half)
        os.rename(half, target)
    except DataError as error:
        raise DataError(f"{archive}: {error} Nothing was unpacked.") from error
    except DAMAGED as error:
        raise DataError(f"{archive} cannot be unpacked: {first_line(error)}. Nothing is kept of it; fetch it again.") from error
    finally:
        shutil.rmtree(half, ignore_errors=True)
    return target


@contextmanager
def _members(source: Path, allowed: int) -> Iterator[list[Member]]:
    """The members of an archive, none of them read yet; DataError for what is neither a zip nor a tar."""
    too_much = f"it unpacks to more than {allowed:,} bytes, {RATIO} times its size or the limit: a bomb, or give a higher limit."
    with source.open("rb") as file:
        head = file.read(512)
        file.seek(0)
        if head.startswith((b"PK\x03\x04", b"PK\x05\x06")):
            with zipfile.ZipFile(file) as packed:
                yield [_zip_member(packed, info) for info in packed.infolist()]
            return
        unpacking = next((kind for mark, kind in COMPRESSED.items() if head.startswith(mark)), None)
        if unpacking is None and head[257:262] != b"ustar":
            raise DataError("it is neither a zip nor a tar archive by its content.")
        stream: Any = file if unpacking is None else unpacking(file) if unpacking is not gzip.GzipFile else gzip.GzipFile(fileobj=file)
        # headers and padding of at most 1 KiB a member come on top of the members' own bytes
        guard = _Guard(stream, allowed * 2 + FREE_BYTES, too_much)
        with tarfile.TarFile(fileobj=guard, mode="r") as tar:
            members = [_tar_member(tar, info) for _, info in zip(range(MEMBERS + 1), tar, strict=False)]
            guard.seek(tar.offset)
            if guard.read(512).strip(b"\0") or guard.tell() != tar.offset + 512:
                raise DataError(f"it is cut short or damaged after {len(members)} members.")  # tarfile takes that for its end
            yield members


def _zip_member(packed: zipfile.ZipFile, info: zipfile.ZipInfo) -> Member:
    kind = stat.S_IFMT(info.external_attr >> 16)
    if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
        raise DataError(
            f"{info.filename!r} is {'a link' if kind == stat.S_IFLNK else 'a device or pipe'}, which a data set has no use for."
        )
    if info.flag_bits & 0x1:
        raise DataError(f"{info.filename!r} is encrypted: unpack it with your own program.")
    name = getattr(info, "orig_filename", info.filename)  # as written: zipfile cuts it at NUL, and turns \ into / on Windows
    return Member(name=name, size=info.file_size, folder=info.is_dir(), open=lambda: packed.open(info))  # type: ignore[arg-type, return-value]


def _tar_member(tar: tarfile.TarFile, info: tarfile.TarInfo) -> Member:
    if not (info.isdir() or info.isreg()) or info.issparse():
        kind = "a link" if info.issym() or info.islnk() else "a sparse file" if info.issparse() else "a device or pipe"
        raise DataError(f"{info.name!r} is {kind}, which a data set has no use for.")
    if info.size < 0:
        raise DataError(f"{info.name!r} has {info.size} bytes, it says.")

    def read() -> BinaryIO:
        return tar.extractfile(info)  # type: ignore[return-value]

    return Member(name=info.name, size=info.size, folder=info.isdir(), open=read)


def check_members(members: Sequence[Member], allowed: int, limit: int) -> None:
    """DataError for the first member that would not stay in the folder or be one of a kind, or for too much of it all."""
    if len(members) > MEMBERS:
        raise DataError(f"it has over {MEMBERS:,} members.")
    files, folders = set[str](), set[str]()
    for member in members:
        parts = safe_parts(member.name)
        path = "/".join(parts)
        if not parts and not member.folder:
            raise DataError(f"{member.name!r} is no name of a file.")
        above = {"/".join(parts[:depth]) for depth in range(1, len(parts))}
        if path in files or (path in folders and not member.folder) or above & files:
            raise DataError(f"{member.name!r} is there twice, or is a file and a folder: which one is meant cannot be told.")
        folders |= above | ({path} if member.folder else set())
        files |= set() if member.folder else {path}
    total = sum(member.size for member in members)
    if total > allowed:
        why = f"limit={limit:,}" if total > limit else f"{RATIO} times the archive's own size, as no photographs are packed"
        raise DataError(f"it unpacks to {total:,} bytes, over {why}. If it is no bomb, unpack it yourself or give a higher limit.")
    if not files:
        raise DataError("it holds no files.")


def safe_parts(name: str) -> tuple[str, ...]:
    """The folders and the name of a member; DataError for a path that is absolute, leads upwards, or is none on some system.

    >>> safe_parts("./a//b.jpg")
    ('a', 'b.jpg')
    """
    bad = "\0" in name or "\\" in name or name.startswith("/") or bool(PureWindowsPath(name).drive)
    parts = tuple(part for part in name.split("/") if part not in ("", "."))
    if bad or ".." in parts or any(len(os.fsencode(part)) > 255 for part in parts):
        raise DataError(f"{name[:200]!r} would lie outside the folder, or has a name that is none on some systems.")
    return parts


def _write(member: Member, folder: Path) -> None:
    path = folder.joinpath(*safe_parts(member.name))
    if member.folder:
        path.mkdir(parents=True, exist_ok=True)
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    left = member.size
    with member.open() as packed, path.open("xb") as file:
        while content := packed.read(BLOCK):
            left -= len(content)
            if left < 0:
                raise DataError(f"{member.name!r} has more bytes than it says.")
            file.write(content)
    if left:
        raise DataError(f"{member.name!r} has {left:,} bytes fewer than it says.")
