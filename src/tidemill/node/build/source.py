"""The archive of a folder as its owner uploaded it: a zip, which may have been made to do harm.

Nothing it says about itself is believed: entries are counted in its directory before that is read, bytes while they are
inflated, and only plain files and folders with plain relative names are written.
"""

import os
import re
import stat
import struct
import zipfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Final

from tidemill.node.build import BuildError

DOCKERFILE: Final = "Dockerfile"

_FILE_MODE: Final = 0o644
_PROGRAM_MODE: Final = 0o755
_COPY_BYTES: Final = 1 << 18

# APPNOTE.TXT 4.3: the fixed parts of the end record, of its 64-bit locator and twin, and of a directory entry
_END: Final = struct.Struct("<4s4H2LH")
_END64_LOCATOR: Final = struct.Struct("<4sLQL")
_END64: Final = struct.Struct("<4sQ2H2L4Q")
_ENTRY: Final = struct.Struct("<4s24x3H12x")
_MAX_COMMENT_BYTES: Final = 0xFFFF
# of a name that is looked for; no name in a zip is longer than 65,535
_NAME_BYTES: Final = 256


class SourceError(BuildError):
    """The archive cannot be taken as it is."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceLimits:
    """How much one archive may hold, unpacked: bytes of all files together, and entries of every kind."""

    max_bytes: int = 4 << 30
    max_entries: int = 200_000


def unpack_source(archive: Path, target: Path, limits: SourceLimits) -> None:
    """Unpack the zip ``archive`` into ``target``, which must not exist.

    Of several entries with one name the last wins (contract 5.4: ``-d`` appends a second ``blaxel.toml``). Of the modes
    only "executable" is kept. Raises SourceError for anything that is not a plain, whole, bounded zip of files and
    folders; ``target`` is then half written and the caller's to remove.
    """
    with archive.open("rb") as file:
        _check_count(file, limits)
        try:
            with zipfile.ZipFile(file) as zipped:
                entries = _entries(zipped)
                target.mkdir()
                _write(zipped, entries, target, limits)
        except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, UnicodeError, struct.error) as error:
            raise SourceError(f"the archive is not a zip that can be read: {error}") from error


def names_file(archive: Path, name: str, limits: SourceLimits) -> bool:
    """Whether the zip ``archive`` has an entry for a file ``name`` in its folder itself; nothing is unpacked.

    False for what is no zip, or has too many entries: who unpacks it says so. Raises OSError.
    """
    wanted = [name.encode()]
    with archive.open("rb") as file:
        try:
            return any(
                [part for part in found.split(b"/") if part not in {b"", b"."}] == wanted and not found.endswith(b"/")
                for found in _names(file, limits)
            )
        except SourceError:
            return False


def _check_count(file: IO[bytes], limits: SourceLimits) -> None:
    """Count the directory's entries before ``zipfile`` makes an object of each (a kilobyte for 46 bytes of archive)."""
    for _ in _names(file, limits):
        pass
    file.seek(0)


def _names(file: IO[bytes], limits: SourceLimits) -> Iterator[bytes]:
    """The names in the directory as they are written there, cut. Raises SourceError for more than may be."""
    start, size = _directory(file)
    file.seek(start)
    count, read = 0, 0
    while read < size:
        header = file.read(_ENTRY.size)
        if len(header) < _ENTRY.size:
            break
        signature, *lengths = _ENTRY.unpack(header)
        if signature != b"PK\1\2":
            break
        yield file.read(min(lengths[0], _NAME_BYTES))
        read += _ENTRY.size + sum(lengths)
        file.seek(start + read)
        count += 1
        if count > limits.max_entries:
            raise SourceError(f"the archive holds more than {limits.max_entries} entries, the limit of this server")


def _directory(file: IO[bytes]) -> tuple[int, int]:
    """Where the central directory begins, and its length in bytes, by the arithmetic that ``zipfile`` uses too."""
    length = file.seek(0, os.SEEK_END)
    tail_at = max(0, length - _END.size - _MAX_COMMENT_BYTES)
    file.seek(tail_at)
    tail = file.read()
    found = tail.rfind(b"PK\5\6", 0, len(tail) - _END.size + 4) if len(tail) >= _END.size else -1
    if found < 0:
        raise SourceError("the archive is not a zip: it has no end record")
    end_at = tail_at + found
    size: int = _END.unpack_from(tail, found)[5]
    locator_at = end_at - _END64_LOCATOR.size
    if locator_at >= _END64.size:
        file.seek(locator_at - _END64.size)
        end64 = file.read(_END64.size)
        if file.read(4) == b"PK\6\7" and end64.startswith(b"PK\6\6"):
            end_at, size = locator_at - _END64.size, _END64.unpack(end64)[8]
    if size > end_at:
        raise SourceError("the archive is not a zip: its directory is longer than the file")
    return end_at - size, size


def _entries(zipped: zipfile.ZipFile) -> dict[str, zipfile.ZipInfo]:
    """The entries to write by their normal name, the last of each name, in the archive's order."""
    entries: dict[str, zipfile.ZipInfo] = {}
    for entry in zipped.infolist():
        name = _name(entry)
        if name:
            entries[name] = entry
    return entries


def _name(entry: zipfile.ZipInfo) -> str:
    """The name without ``.`` and doubled slashes; empty for the folder itself."""
    raw = entry.orig_filename
    if raw.startswith("/") or re.match(r"[A-Za-z]:", raw) or "\\" in raw or "\0" in raw or not raw:
        raise SourceError(f"the archive holds {raw!r}; names must be relative and use forward slashes")
    parts = [part for part in raw.split("/") if part not in {"", "."}]
    if entry.header_offset < 0:
        raise SourceError(f"the archive is not a whole zip: {raw!r} lies before its beginning")
    if ".." in parts:
        raise SourceError(f"the archive holds {raw!r}, which leads out of the folder")
    if stat.S_IFMT(entry.external_attr >> 16) not in {0, stat.S_IFREG, stat.S_IFDIR}:
        raise SourceError(
            f"the archive holds {raw!r}, which is a link or a device; only files and folders can be deployed"
        )
    if entry.flag_bits & 1 or entry.compress_type not in {zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED}:
        raise SourceError(f"the archive holds {raw!r} encrypted or compressed in another way than deflate")
    return "/".join(parts)


def _write(zipped: zipfile.ZipFile, entries: dict[str, zipfile.ZipInfo], target: Path, limits: SourceLimits) -> None:
    budget = limits.max_bytes
    for name, entry in entries.items():
        path = target / name
        try:
            if entry.is_dir() or stat.S_ISDIR(entry.external_attr >> 16):
                path.mkdir(parents=True, exist_ok=True)
                continue
            path.parent.mkdir(parents=True, exist_ok=True)
            with path.open("xb") as file:
                budget -= _copy(zipped, entry, file, budget)
        except (FileExistsError, NotADirectoryError, IsADirectoryError) as error:
            raise SourceError(f"the archive holds {name!r} both as a file and as a folder") from error
        except OSError as error:
            raise SourceError(f"the archive's {name[:100]!r} cannot be written: {error.strerror}") from error
        path.chmod(_PROGRAM_MODE if entry.external_attr >> 16 & stat.S_IXUSR else _FILE_MODE)


def _copy(zipped: zipfile.ZipFile, entry: zipfile.ZipInfo, file: IO[bytes], budget: int) -> int:
    """Inflate one entry and return its true size; never writes more than ``budget`` bytes."""
    written = 0
    with zipped.open(entry) as content:
        while data := content.read(_COPY_BYTES):
            written += len(data)
            if written > budget:
                raise SourceError("the archive unpacks to more than this server's limit")
            file.write(data)
    return written
