"""Layers of an image, laid over each other (OCI image specification 1.0): a tar each, with marks for what it removes.

Made by strangers: no entry is written through a link that leads out of the folder, nothing but files, directories and
links is made, and bytes and entries are counted.
"""

import gzip
import os
import shutil
import stat
import tarfile
import zlib
from pathlib import Path
from typing import IO, Final

from tidemill.node.build import BuildError
from tidemill.node.build.source import SourceLimits

_WHITEOUT: Final = ".wh."
_OPAQUE: Final = ".wh..wh..opq"
_LINKS_MAX: Final = 40
_COPY_BYTES: Final = 1 << 20
_GZIP_MAGIC: Final = b"\x1f\x8b"
_ZSTD_MAGIC: Final = b"\x28\xb5\x2f\xfd"


class Rootfs:
    """The folder that layers are laid into, the lowest first."""

    def __init__(self, root: Path, limits: SourceLimits) -> None:
        """``root`` exists and is empty; ``limits`` are those of all layers together, what is removed again included."""
        self._root = root
        self._limits = limits
        self._bytes = 0
        self._entries = 0

    def lay(self, layer: Path, name: str) -> None:
        """Lay one layer, a tar, compressed or not. Raises BuildError, which calls it ``name``; OSError without room."""
        try:
            with layer.open("rb") as file, _uncompressed(file, name) as content:
                self._lay(content)
        except (tarfile.TarError, zlib.error, gzip.BadGzipFile, EOFError, UnicodeError) as error:
            raise BuildError(f"layer {name} cannot be read: {error}") from error
        except RecursionError as error:
            raise BuildError(f"layer {name} nests too deep") from error

    def _lay(self, content: IO[bytes]) -> None:
        made: set[str] = set()
        with tarfile.open(fileobj=content, mode="r|") as tar:
            for entry in tar:
                self._count(entry)
                parts = [part for part in entry.name.split("/") if part not in {"", "."}]
                if ".." in parts or "\0" in entry.name:
                    raise BuildError(f"the image holds {entry.name!r}, which leads out of it")
                if not parts:
                    continue
                folder = self._folder(parts[:-1])
                if parts[-1] == _OPAQUE:
                    self._empty(folder, made)
                elif parts[-1].startswith(_WHITEOUT):
                    _remove(folder / parts[-1].removeprefix(_WHITEOUT))
                else:
                    self._make(tar, entry, folder / parts[-1])
                    made.add(str(folder / parts[-1]))

    def _count(self, entry: tarfile.TarInfo) -> None:
        self._entries += 1
        if self._entries > self._limits.max_entries:
            raise BuildError(f"the image has more than {self._limits.max_entries} entries, the limit of this server")
        # what the header says is what will be written: tarfile reads no more
        self._bytes += entry.size if entry.isreg() else 0
        if self._bytes > self._limits.max_bytes:
            raise BuildError(f"the image has more than {self._limits.max_bytes} bytes, the limit of this server")

    def _make(self, tar: tarfile.TarFile, entry: tarfile.TarInfo, path: Path) -> None:
        if entry.isdir():
            if not _is_folder(path):
                _remove(path)
                path.mkdir()
            path.chmod(0o755)
            return
        if entry.islnk():
            source = self._linked(entry.linkname)
            if source == path:
                return
            _remove(path)
            os.link(source, path, follow_symlinks=False)
            return
        _remove(path)
        if entry.issym():
            path.symlink_to(entry.linkname)
        elif entry.isreg():
            taken = tar.extractfile(entry)
            assert taken is not None
            with path.open("xb") as file:
                shutil.copyfileobj(taken, file, _COPY_BYTES)
            path.chmod(0o755 if entry.mode & stat.S_IXUSR else 0o644)
        # devices and pipes: a container has those that it may use

    def _linked(self, name: str) -> Path:
        parts = [part for part in name.split("/") if part not in {"", "."}]
        if ".." in parts or not parts:
            raise BuildError(f"the image holds a link to {name!r}, which leads out of it")
        source = self._folder(parts[:-1]) / parts[-1]
        if not os.path.lexists(source) or _is_folder(source):
            raise BuildError(f"the image holds a link to {name!r}, which is no file of it")
        return source

    def _folder(self, parts: list[str]) -> Path:
        """The directory of these names below the root, made where it is missing; links lead where they do inside."""
        found: list[str] = []
        left = list(reversed(parts))
        links = 0
        while left:
            part = left.pop()
            if part == "..":
                del found[-1:]
                continue
            path = self._root.joinpath(*found, part)
            if path.is_symlink():
                links += 1
                if links > _LINKS_MAX:
                    raise BuildError(f"the image holds {'/'.join(parts)!r}, below links that lead in a circle")
                target = os.readlink(path)  # noqa: PTH115  # its text, as it is
                if target.startswith("/"):
                    found = []
                left += reversed([each for each in target.split("/") if each not in {"", "."}])
                continue
            if not _is_folder(path):
                _remove(path)
                path.mkdir()
                path.chmod(0o755)
            found.append(part)
        return self._root.joinpath(*found)

    def _empty(self, folder: Path, made: set[str]) -> None:
        """Hide what lower layers have in ``folder``; what this one has made stays."""
        for entry in list(folder.iterdir()):
            if not any(name == str(entry) or name.startswith(f"{entry}/") for name in made):
                _remove(entry)


class _uncompressed:  # noqa: N801  # used as a function
    """The tar in a file, whatever it is compressed with."""

    def __init__(self, file: IO[bytes], name: str) -> None:
        self._file = file
        self._name = name

    def __enter__(self) -> IO[bytes]:
        magic = self._file.read(4)
        self._file.seek(0)
        if magic.startswith(_GZIP_MAGIC):
            return gzip.open(self._file)  # type: ignore[return-value]  # a file to read bytes from
        if magic == _ZSTD_MAGIC:
            raise BuildError(f"layer {self._name} is compressed with zstd, which is not read here; push it with gzip")
        return self._file

    def __exit__(self, *_: object) -> None:
        pass


def _is_folder(path: Path) -> bool:
    return path.is_dir() and not path.is_symlink()


def _remove(path: Path) -> None:
    if _is_folder(path):
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
