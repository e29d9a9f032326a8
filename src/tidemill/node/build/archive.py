"""The archive of an image: packed by a build, unpacked once by each node that runs it.

A gzip'ed tar, the same bytes for the same tree: ``image.json`` first, then ``app/`` in sorted order, times and
owners 0.
"""

import ctypes
import gzip
import hashlib
import io
import json
import os
import shutil
import stat
import tarfile
import tempfile
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import IO, Final, Self

FORMAT: Final = 1
MANIFEST_NAME: Final = "image.json"
APP_NAME: Final = "app"
# what a node that died while unpacking leaves beside its images; nothing else begins like this
PARTIAL_PREFIX: Final = ".partial-"
# some thousand times what an image needs; who unpacks holds them in memory
MANIFEST_MAX_BYTES: Final = 1 << 20
HEADER_MAX_BYTES: Final = 1 << 20

_COPY_BYTES: Final = 1 << 20
# tarfile copies what is left of its buffer at each read: the larger, the slower small files are
_READ_BYTES: Final = 1 << 16
_FILE_MODE: Final = 0o644
_PROGRAM_MODE: Final = 0o755


# what stands in an archive before the entry that it is about, and is read as a whole
_LONG_HEADERS: Final = frozenset(
    {tarfile.XHDTYPE, tarfile.XGLTYPE, tarfile.SOLARIS_XHDTYPE, tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK}
)


class ArchiveError(ValueError):
    """An image archive, or an unpacked image, that is not one of ours; the message says which file and why."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RootConfig:
    """What an image of a registry says of its commands: their environment, and the absolute path they begin in."""

    environment: Mapping[str, str] = field(default_factory=dict)
    directory: str = "/"


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageManifest:
    """What ``image.json`` says.

    ``command`` is never empty; its first word is relative to ``app/`` when it holds a ``/`` and is not absolute, else
    it is looked up in PATH. ``language`` is ``python`` or ``command``. ``python_prefix`` is the directory of the
    interpreter that the environment in ``app/.venv`` points to, None for other languages.

    With ``root`` the image is one of a registry: ``app/`` is its root file system, ``language`` is ``root``, and the
    command's first word is relative to the directory it begins in.
    """

    command: tuple[str, ...]
    language: str
    python_prefix: str | None = None
    root: RootConfig | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class PackedImage:
    """A written archive: ``digest`` is the sha256 of its bytes in hex."""

    digest: str
    size_bytes: int


class _Hashing:
    """Counts and hashes what is written through it, so that the archive is not read again for its digest."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self._hash = hashlib.sha256()
        self._size_bytes = 0

    def write(self, data: bytes) -> int:
        self._hash.update(data)
        self._size_bytes += len(data)
        return self._file.write(data)

    def flush(self) -> None:
        self._file.flush()

    def packed(self) -> PackedImage:
        return PackedImage(digest=self._hash.hexdigest(), size_bytes=self._size_bytes)


def pack_image(image: ImageManifest, app: Path, out: Path) -> PackedImage:
    """Write the archive of ``app`` to ``out`` under a temporary name, fsync it, and rename it.

    Symbolic links stay links, whatever they point to; sockets, pipes and devices are left out; of the modes only
    "executable" is kept. Raises OSError when there is no room; then nothing is left at ``out``.
    """
    partial = out.with_name(f"{PARTIAL_PREFIX}{out.name}")
    try:
        with partial.open("wb") as file:
            hashing = _Hashing(file)
            with (
                gzip.GzipFile(filename="", mode="wb", compresslevel=1, fileobj=hashing, mtime=0) as packed,
                tarfile.open(fileobj=packed, mode="w|", format=tarfile.PAX_FORMAT, bufsize=_COPY_BYTES) as tar,
            ):
                _add_manifest(tar, image)
                _add_tree(tar, app)
            file.flush()
            os.fsync(file.fileno())
        partial.rename(out)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise
    _sync_directory(out.parent)
    return hashing.packed()


def _add_manifest(tar: tarfile.TarFile, image: ImageManifest) -> None:
    document: dict[str, object] = {
        "format": FORMAT,
        "command": list(image.command),
        "language": image.language,
        "python_prefix": image.python_prefix,
    }
    if image.root is not None:
        document["root"] = asdict(image.root)
    data = json.dumps(document, ensure_ascii=False).encode()
    entry = tarfile.TarInfo(MANIFEST_NAME)
    entry.size = len(data)
    tar.addfile(entry, io.BytesIO(data))


def _add_tree(tar: tarfile.TarFile, app: Path) -> None:
    tar.addfile(_directory_entry(APP_NAME))
    for path, name in _walk(app, APP_NAME):
        status = path.lstat()
        if stat.S_ISDIR(status.st_mode):
            tar.addfile(_directory_entry(name))
        elif stat.S_ISLNK(status.st_mode):
            entry = tarfile.TarInfo(name)
            entry.type, entry.linkname = tarfile.SYMTYPE, str(path.readlink())
            tar.addfile(entry)
        elif stat.S_ISREG(status.st_mode):
            entry = tarfile.TarInfo(name)
            entry.size = status.st_size
            entry.mode = _PROGRAM_MODE if status.st_mode & stat.S_IXUSR else _FILE_MODE
            with path.open("rb") as content:
                tar.addfile(entry, content)


def _directory_entry(name: str) -> tarfile.TarInfo:
    entry = tarfile.TarInfo(name)
    entry.type, entry.mode = tarfile.DIRTYPE, _PROGRAM_MODE
    return entry


def _walk(folder: Path, name: str) -> Iterator[tuple[Path, str]]:
    with os.scandir(folder) as found:
        entries = sorted(found, key=lambda entry: entry.name)
    for entry in entries:
        below = f"{name}/{entry.name}"
        yield Path(entry.path), below
        if entry.is_dir(follow_symlinks=False):
            yield from _walk(Path(entry.path), below)


def unpack_image(archive: Path, target: Path) -> None:
    """Make ``target`` the unpacked image: all of it, or nothing.

    Unpacks under a temporary name beside ``target``, brings it to disk and renames it. Does nothing when ``target``
    exists; two that unpack the same image at once are both right. Everything is readable by every user, whatever the
    umask. A process that is killed meanwhile leaves a directory that begins with PARTIAL_PREFIX beside ``target``.
    Raises ArchiveError when the archive is damaged or holds what a build never packs, OSError when there is no room.
    """
    if target.is_dir():
        return
    partial = Path(tempfile.mkdtemp(prefix=PARTIAL_PREFIX, dir=target.parent))
    try:
        partial.chmod(_PROGRAM_MODE)
        _extract(archive, partial)
        read_image(partial)
        _sync_filesystem(partial)
        try:
            partial.rename(target)
        except OSError:
            if not target.is_dir():
                raise
        _sync_directory(target.parent)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def read_image(target: Path) -> ImageManifest:
    """What the unpacked image at ``target`` is. Raises ArchiveError when its ``image.json`` is missing or not ours."""
    try:
        with (target / MANIFEST_NAME).open("rb") as file:
            text = file.read(MANIFEST_MAX_BYTES + 1)
        # of a longer one some of it, which is none
        document = json.loads(text[:MANIFEST_MAX_BYTES])
    except FileNotFoundError as error:
        raise ArchiveError(f"{target} is no image: it has no {MANIFEST_NAME}") from error
    except (ValueError, RecursionError) as error:
        raise ArchiveError(f"{target / MANIFEST_NAME} is not JSON: {error}") from error
    match document:
        case {"format": 1, "command": [str(), *_] as command, "language": str(language), "python_prefix": prefix} if (
            all(isinstance(word, str) for word in command) and isinstance(prefix, str | None)
        ):
            root = _read_root(document.get("root"))
            return ImageManifest(command=tuple(command), language=language, python_prefix=prefix, root=root)
        case _:
            raise ArchiveError(f"{target / MANIFEST_NAME} is of no format that this node knows (it knows {FORMAT})")


def _read_root(document: object) -> RootConfig | None:
    match document:
        case None:
            return None
        case {"environment": dict() as environment, "directory": str(directory)}:
            return RootConfig(environment={str(k): str(v) for k, v in environment.items()}, directory=directory)
        case _:
            raise ArchiveError(f"{MANIFEST_NAME} says nothing that this node knows of its root: {document!r}")


def _extract(archive: Path, folder: Path) -> None:
    """Write every entry below ``folder``, which is empty.

    No link is ever followed, for an entry is written only into a directory made here. So a link may point anywhere
    (``.venv/bin/python`` points to the interpreter), which the ``data`` filter of ``tarfile`` forbids.
    """
    made = {""}
    try:
        with (
            gzip.open(archive) as packed,
            _Archive.open(fileobj=packed, mode="r|", bufsize=_READ_BYTES, tarinfo=_Entry) as tar,
        ):
            while (entry := tar.next()) is not None:
                # it would remember all of them
                tar.members.clear()
                _check_name(entry.name, made)
                _extract_entry(tar, entry, f"{folder}/{entry.name}")
                if entry.isdir():
                    made.add(entry.name)
    except (tarfile.TarError, zlib.error, gzip.BadGzipFile, EOFError, UnicodeError, FileExistsError) as error:
        raise ArchiveError(f"{archive.name} is damaged: {error}") from error


class _Archive(tarfile.TarFile):
    members: list[tarfile.TarInfo]
    """Those that were read."""


class _Entry(tarfile.TarInfo):
    """An entry that takes no more memory than an honest one, whatever its archive says of it."""

    @classmethod
    def frombuf(cls, buf: bytes | bytearray, encoding: str, errors: str) -> Self:
        found = super().frombuf(buf, encoding, errors)
        if found.type in _LONG_HEADERS and found.size > HEADER_MAX_BYTES:
            raise ArchiveError(f"a header of an image archive has {found.size} bytes, more than {HEADER_MAX_BYTES}")
        if found.type == tarfile.GNUTYPE_SPARSE:
            raise ArchiveError("an image archive may not hold a file with holes")
        return found

    def _proc_gnusparse_10(self, *_: object) -> None:
        """Called for a file with holes, whose list of holes has no bound."""
        raise ArchiveError("an image archive may not hold a file with holes")


def _check_name(name: str, made: set[str]) -> None:
    parts = name.split("/")
    if not {"", ".", ".."}.isdisjoint(parts) or "\0" in name:
        raise ArchiveError(f"an image archive may not hold an entry named {name!r}")
    if name.rpartition("/")[0] not in made:
        raise ArchiveError(f"the entry {name!r} of an image archive lies in no directory of it")


def _extract_entry(tar: tarfile.TarFile, entry: tarfile.TarInfo, path: str) -> None:
    if entry.isdir():
        os.mkdir(path)  # noqa: PTH102  # Path objects alone would be a fifth of the time of a large environment
        os.chmod(path, _PROGRAM_MODE)  # noqa: PTH101
    elif entry.issym():
        os.symlink(entry.linkname, path)  # noqa: PTH211
    elif entry.isreg():
        content = tar.extractfile(entry)
        assert content is not None
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, _FILE_MODE)
        with open(descriptor, "wb", buffering=0) as file:  # noqa: PTH123
            os.fchmod(descriptor, _PROGRAM_MODE if entry.mode & stat.S_IXUSR else _FILE_MODE)
            shutil.copyfileobj(content, file, _COPY_BYTES)
    else:
        raise ArchiveError(f"the entry {entry.name!r} of an image archive is no file, directory or symbolic link")


def _sync_filesystem(folder: Path) -> None:
    """Bring everything written below ``folder`` to disk.

    One ``syncfs`` (libc; Python has no name for it), since an ``fsync`` for each of ten thousand files takes a minute
    on an ordinary disk. Without it a crash after the rename could leave an image of empty files that looks whole.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        if libc.syncfs(descriptor) != 0:
            number = ctypes.get_errno()
            raise OSError(number, os.strerror(number), str(folder))
    finally:
        os.close(descriptor)


def _sync_directory(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
