"""What a sandbox shows as /etc: a folder with what programs need of this machine's, and nobody's accounts.

One folder for all sandboxes of a node is one mount for each; a mount for each file would take longer than to start a
command.
"""

import itertools
import os
import shutil
import stat
from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Final

from tidemill.node.isolation.system import configuration

_ETC: Final = Path("/etc")
_ACCOUNTS: Final = frozenset({"passwd", "group"})
_NOBODY: Final = 65534


class Etc:
    """Copies of the machine's, the newest of which is for the next sandbox; those before it stay for who has them."""

    def __init__(self, folder: Path, mount_points: Iterable[Path] = ()) -> None:
        """``folder`` is made anew. Below /etc there is room for ``mount_points``. Raises OSError."""
        self._folder = folder
        self._mount_points = [path for path in mount_points if path.is_relative_to(_ETC)]
        self._sources = [path for path in configuration() if path.name not in _ACCOUNTS]
        self._numbers = itertools.count(1)
        self._seen: list[int] = []
        self._current = folder
        shutil.rmtree(folder, ignore_errors=True)
        _make_folder(folder)
        self.current()

    def current(self) -> Path:
        """As the machine's is now: some thirty looks, and a new copy where something has changed. Raises OSError."""
        seen = [_changed_at(source) for source in self._sources]
        if seen != self._seen:
            self._current = self._copy(self._folder / str(next(self._numbers)))
            self._seen = seen
        return self._current

    def _copy(self, target: Path) -> Path:
        _make_folder(target)
        for source in self._sources:
            # a link out of /etc leads to what a sandbox may not have, as resolv.conf often does
            _copy(source.resolve() if _leads_astray(source) else source, target / source.name)
        for name, text in _accounts(os.geteuid(), os.getegid()).items():
            (target / name).write_text(text)
            (target / name).chmod(0o644)
        for path in self._mount_points:
            _make_room(target / path.relative_to(_ETC), is_folder=path.is_dir())
        return target


def _accounts(uid: int, gid: int) -> Mapping[str, str]:
    """As few as programs can do with: root, nobody, and whoever tasks run as when they are the node's user."""
    users = {uid: "tidemill", 0: "root", _NOBODY: "nobody"}
    groups = {gid: "tidemill", 0: "root", _NOBODY: "nogroup"}
    return {
        "passwd": "".join(f"{name}:x:{number}:{number}::/tmp:/bin/sh\n" for number, name in users.items()),
        "group": "".join(f"{name}:x:{number}:\n" for number, name in groups.items()),
    }


def _changed_at(source: Path) -> int:
    """Differs after a change: of a folder, to the names in it or in a folder of it."""
    changed_at = 0
    with suppress(OSError):
        changed_at = source.stat().st_mtime_ns
    if stat.S_ISDIR(_mode(source)):
        with suppress(OSError), os.scandir(source) as found:
            inside = [each.stat().st_mtime_ns for each in found if each.is_dir(follow_symlinks=False)]
            changed_at = max(changed_at, *inside, 0)
    return changed_at


def _leads_astray(source: Path) -> bool:
    return source.is_symlink() and not source.resolve().is_relative_to("/usr")


def _copy(source: Path, target: Path) -> None:
    """What everybody may read of it, as it is: no private key, no socket; nothing where there is nothing."""
    mode = _mode(source)
    if stat.S_ISLNK(mode):
        target.symlink_to(source.readlink())
    elif stat.S_ISREG(mode) and mode & stat.S_IROTH:
        shutil.copyfile(source, target)
        target.chmod(0o755 if mode & stat.S_IXOTH else 0o644)
    elif stat.S_ISDIR(mode) and mode & stat.S_IROTH and mode & stat.S_IXOTH:
        _make_folder(target)
        for inside in source.iterdir():
            _copy(inside, target / inside.name)


def _mode(path: Path) -> int:
    try:
        return path.lstat().st_mode
    except OSError:
        return 0


def _make_folder(folder: Path) -> None:
    folder.mkdir(parents=True)
    folder.chmod(0o755)


def _make_room(path: Path, *, is_folder: bool) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    if is_folder:
        path.mkdir(exist_ok=True)
    else:
        path.touch(exist_ok=True)
