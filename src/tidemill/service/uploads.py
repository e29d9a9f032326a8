"""Source archives as they arrive: checked before anything is made of them, then stored, then built."""

import os
import stat
import struct
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import IO, Final

from tidemill import secrets
from tidemill.model.errors import Invalid, TooLarge
from tidemill.model.ids import BuildKey, new_key
from tidemill.model.image import source_blob
from tidemill.model.principal import PrincipalKind
from tidemill.service import entrances
from tidemill.service.entrances import Act
from tidemill.service.parts import Limits, Parts
from tidemill.store import identity, uploads
from tidemill.store.database import Connection
from tidemill.store.uploads import NewBuild

_TAIL_BYTES: Final = 65_557  # the longest end record: 22 bytes and a comment
# APPNOTE.TXT 4.3: the fixed parts of the end record, of its 64-bit twin, and of an entry of the directory
_END: Final = struct.Struct("<4s4H2LH")
_END_64: Final = struct.Struct("<4sQ2H2L4Q")
_LOCATOR_64_BYTES: Final = 20
_ENTRY: Final = struct.Struct("<4s24x3H12x")
_END_MARK: Final = b"PK\x05\x06"
_ENCRYPTED: Final = 0x1


@dataclass(frozen=True, slots=True, kw_only=True)
class Arrived:
    """A file that came whole: where it lies, its SHA-256 in hex, and how big it is."""

    path: Path
    digest: str
    size_bytes: int


def begin(parts: Parts, capability: str, *, now: datetime) -> None:
    """Bytes begin to come. One unit of three statements. Raises NotFound, Conflict for a spent or superseded URL."""
    digest = secrets.capability_digest(capability)
    parts.database.write(lambda connection: uploads.begin(connection, digest, now=now), wakes=False)


def accept(parts: Parts, capability: str, arrived: Arrived, *, now: datetime) -> None:
    """Check the archive, store it, and let it be built. One unit of nine statements, and four for its row.

    Raises Invalid, TooLarge for an archive that no build could use; then nothing is stored and the URL stays good.
    Raises NotFound, Conflict.
    """
    check_archive(arrived.path, parts.limits)
    parts.blobs.take_file(source_blob(arrived.digest), arrived.path)
    build = NewBuild(
        key=BuildKey(new_key(int(now.timestamp() * 1000))),
        source_digest=arrived.digest,
        size_bytes=arrived.size_bytes,
        memory_mb=parts.limits.build_memory_mb,
        timeout_s=parts.limits.build_timeout_s,
    )
    digest = secrets.capability_digest(capability)
    tell = entrances.teller(parts, now=now)

    def unit(connection: Connection) -> None:
        taken = uploads.take(connection, digest, build, now=now)
        is_person = identity.find_account(connection, taken.by) is not None
        act = Act(
            action="uploads.accept",
            resource=f"jobs/{taken.job}",
            workspace=taken.workspace,
            credential="upload_url",
            actor=taken.by,
            kind=(PrincipalKind.USER if is_person else PrincipalKind.SERVICE_ACCOUNT).value,
        )
        tell(connection, act)

    parts.database.write(unit)


def check_archive(path: Path, limits: Limits) -> None:
    """Whether a zip can be a source archive, by its index alone: a build checks what it unpacks again.

    Raises Invalid, TooLarge naming the entry or the limit.
    """
    with path.open("rb") as file, _readable():
        _check_index(file, limits)
        with zipfile.ZipFile(file) as archive:
            entries = archive.infolist()
    unpacked = sum(entry.file_size for entry in entries)
    if unpacked > limits.unpacked_bytes:
        raise TooLarge(f"the archive unpacks to {unpacked} bytes; it may have up to {limits.unpacked_bytes}")
    for entry in entries:
        _check_entry(entry)


def _check_index(file: IO[bytes], limits: Limits) -> None:
    """Count the entries before ``zipfile`` makes an object of each: a kilobyte for 46 bytes of the archive."""
    start, size = _index(file)
    count, read = 0, 0
    while read < size:
        file.seek(start + read)
        header = file.read(_ENTRY.size)
        if len(header) < _ENTRY.size or not header.startswith(b"PK\1\2"):
            raise Invalid("the upload is not a zip archive: its directory is broken")
        read += _ENTRY.size + sum(_ENTRY.unpack(header)[1:])
        count += 1
        if count > limits.unpacked_entries:
            raise TooLarge(f"the archive has more than {limits.unpacked_entries} entries, the limit of this server")
    file.seek(0)


def _index(file: IO[bytes]) -> tuple[int, int]:
    """Where the central directory begins and how long it is, by the arithmetic that ``zipfile`` uses."""
    length = file.seek(0, os.SEEK_END)
    tail_at = max(length - _TAIL_BYTES, 0)
    file.seek(tail_at)
    tail = file.read()
    found = tail.rfind(_END_MARK)
    if found < 0 or len(tail) - found < _END.size:
        raise Invalid("the upload is not a zip archive: it has no end record")
    end_at, size = tail_at + found, int(_END.unpack_from(tail, found)[5])
    locator_at = end_at - _LOCATOR_64_BYTES
    if locator_at >= _END_64.size:
        file.seek(locator_at - _END_64.size)
        end_64 = file.read(_END_64.size)
        if file.read(4) == b"PK\6\7" and end_64.startswith(b"PK\6\6"):
            end_at, size = locator_at - _END_64.size, int(_END_64.unpack(end_64)[8])
    if size > end_at:
        raise Invalid("the upload is not a zip archive: its directory is longer than the file")
    return end_at - size, size


def _check_entry(entry: zipfile.ZipInfo) -> None:
    name = entry.orig_filename
    parts = name.replace("\\", "/").split("/")
    if not name or "\0" in name or "\\" in name or name.startswith("/") or ".." in parts or name[1:2] == ":":
        raise Invalid(f"the archive's entry {name[:200]!r} leaves the folder; names are relative, with /, without ..")
    if entry.flag_bits & _ENCRYPTED:
        raise Invalid(f"the archive's entry {name[:200]!r} is encrypted")
    mode = entry.external_attr >> 16
    if stat.S_IFMT(mode) not in {0, stat.S_IFREG, stat.S_IFDIR, stat.S_IFLNK}:
        raise Invalid(f"the archive's entry {name[:200]!r} is a device or the like; only files and folders travel")


@contextmanager
def _readable() -> Iterator[None]:
    try:
        yield
    except (zipfile.BadZipFile, NotImplementedError, struct.error, UnicodeDecodeError, OSError, ValueError) as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise  # the disk's fault
        raise Invalid(f"the upload is not a zip archive: {error}") from None
