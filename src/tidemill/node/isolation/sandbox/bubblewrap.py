"""The command line of bubblewrap: what a sandbox shows of this machine, and the launcher that is started in it."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tidemill.model.volume import Volume
from tidemill.node.isolation.system import PROGRAMS

# where a sandbox has the launcher, which is process 1 there and starts the command
INIT: Final = Path("/.init")
# the image once more, for those who know that it lies here in a container
APP: Final = Path("/app")
TEMPORARY: Final = Path("/tmp")  # noqa: S108  # the sandbox's own
SHARED_MEMORY: Final = Path("/dev/shm")  # noqa: S108  # likewise
DEVICES: Final = Path("/dev")
_PROC: Final = Path("/proc")
ETC: Final = Path("/etc")
# processors and their caches, by which libraries choose how many threads they use; no more of the kernel
_KERNEL: Final = "/sys/devices/system"

# for everybody who may see it to pass through, for nobody to list
_PASSABLE: Final = "0111"
_EVERYBODYS: Final = "1777"

_NAMESPACES: Final = (
    *("--unshare-user", "--unshare-pid", "--unshare-ipc", "--unshare-uts", "--unshare-cgroup-try"),
    "--disable-userns",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class View:
    """What one command sees. Paths are the same inside and outside; what there is to ``read`` may be missing.

    ``etc`` is shown as /etc. ``app`` is the folder that APP leads to. ``own_proc``: a /proc of its own, else this
    machine's, to read. ``temporary_bytes`` bounds each of TEMPORARY and SHARED_MEMORY.
    """

    launcher: Path
    etc: Path | None
    app: Path
    read: tuple[Path, ...] = ()
    write: tuple[Path, ...] = ()
    volumes: tuple[Volume, ...] = ()
    own_proc: bool = True
    temporary_bytes: int


def system_words() -> tuple[str, ...]:
    """The programs and libraries of this machine, as they lie here: folders, or links to them."""
    words: list[str] = []
    for path in map(Path, PROGRAMS):
        if path.is_symlink():
            words += ("--symlink", str(path.readlink()), str(path))
        elif path.is_dir():
            words += ("--ro-bind", str(path), str(path))
    return (*words, "--ro-bind-try", _KERNEL, _KERNEL)


def sandboxed(bubblewrap: Path, system: Iterable[str], view: View) -> tuple[str, ...]:
    """The words in front of what INIT is started with. ``system`` is what ``system_words`` has found."""
    size = str(view.temporary_bytes)
    return (
        *(str(bubblewrap), "--die-with-parent", *_NAMESPACES),
        *("--cap-drop", "ALL", "--new-session", "--clearenv", "--chdir", "/"),
        *system,
        *(() if view.etc is None else ("--ro-bind", str(view.etc), str(ETC))),
        *(("--proc", str(_PROC)) if view.own_proc else ("--ro-bind", str(_PROC), str(_PROC))),
        *("--dev", str(DEVICES)),
        *("--size", size, "--perms", _EVERYBODYS, "--tmpfs", str(SHARED_MEMORY)),
        *("--size", size, "--perms", _EVERYBODYS, "--tmpfs", str(TEMPORARY)),
        *_shown(view),
        *(word for volume in view.volumes for word in _mounted(volume)),
        *("--symlink", str(view.app), str(APP), "--ro-bind", str(view.launcher), str(INIT)),
        *("--remount-ro", str(DEVICES), "--remount-ro", "/"),
        *("--as-pid-1", "--", str(INIT)),
    )


def _mounted(volume: Volume) -> Iterator[str]:
    yield from ("--size", str(volume.size_mb << 20), "--perms", "0755", "--tmpfs", volume.path)
    if volume.read_only:
        yield from ("--remount-ro", volume.path)


def _shown(view: View) -> Iterator[str]:
    """The paths of the view, those that hold others first: a path to read in one to write is not to be written."""
    to_write = frozenset(view.write)
    shown = dict[Path, bool]()
    made = {Path("/"), Path("/usr"), ETC, DEVICES, SHARED_MEMORY, TEMPORARY}
    for path in sorted({*view.read, *view.write}, key=lambda path: (len(path.parts), path)):
        writable = path in to_write
        around = next((shown[above] for above in path.parents if above in shown), None)
        if around is writable or (not writable and _is_everybodys(path)):
            continue
        if around is None:
            for above in reversed(path.parents):
                if above not in made:
                    made.add(above)
                    yield from ("--perms", _PASSABLE, "--dir", str(above))
        shown[path] = writable
        yield from (_mount(path) if writable else "--ro-bind-try", str(path), str(path))


def _mount(path: Path) -> str:
    """A device is one only where it is bound as such."""
    is_device = path.is_relative_to(DEVICES) and not path.is_relative_to(SHARED_MEMORY)
    return "--dev-bind" if is_device else "--bind"


def _is_everybodys(path: Path) -> bool:
    """Whether it is there without being named."""
    return any(path.is_relative_to(folder) for folder in (*PROGRAMS, str(_PROC), _KERNEL))
