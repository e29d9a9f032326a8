"""Which volumes a task can have on a node, said before anything is started."""

from collections.abc import Iterable
from pathlib import Path, PurePosixPath
from typing import Final

from tidemill.model.volume import Volume
from tidemill.node.isolation.protocol import Needs, Refused

VOLUMES_MAX: Final = 16

# what the kernel shows there is no task's to replace, and programs ask it what they are
_KERNELS: Final = tuple(map(PurePosixPath, ("/proc", "/sys", "/dev")))
_ROOT: Final = PurePosixPath("/")
_ETC: Final = Path("/etc")


def check_volumes(needs: Needs) -> None:
    """Raises Refused for volumes that no node could give: the text names the volume and what would be right."""
    volumes = needs.volumes
    if len(volumes) > VOLUMES_MAX:
        raise Refused(f"the job has {len(volumes)} volumes; a task has {VOLUMES_MAX} at most, so it was not started")
    total_mb = sum(volume.size_mb for volume in volumes)
    if total_mb > needs.memory_mb:
        # what lies in a volume counts as memory of its task: one that is full must not be what kills it
        raise Refused(
            f"the job's volumes have {total_mb} MB in all, but they lie in memory, of which its tasks have "
            f"{needs.memory_mb} MB: ask for more memory, or for smaller volumes"
        )
    for volume in volumes:
        if problem := _misplaced(volume, (*needs.read, *needs.write)):
            raise Refused(f"the volume at {volume.path} {problem}, so the task was not started; /scratch would do")


def check_room(volumes: Iterable[Volume], shown: Iterable[Path]) -> None:
    """Raises Refused for a volume in a folder that is ``shown`` as it is, where no directory is for it."""
    for volume in volumes:
        path = Path(volume.path)
        for folder in shown:
            # of /etc a copy is shown, with less in it
            if folder in path.parents and (folder == _ETC or not path.is_dir()):
                raise Refused(
                    f"the volume at {path} lies in {folder}, where there is no such directory and none is made, so the "
                    "task was not started; /scratch would do"
                )


def _misplaced(volume: Volume, needed: Iterable[Path]) -> str:
    path = PurePosixPath(volume.path)
    if path == _ROOT:
        return "would replace everything that a task runs on"
    if any(path.is_relative_to(kernels) for kernels in _KERNELS):
        return "would replace what the kernel shows there"
    for own in needed:
        if own.is_relative_to(path):
            return f"would hide {own}, which the task needs"
    return ""
