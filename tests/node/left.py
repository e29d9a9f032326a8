"""What of an attempt is there after its end: found by listing, whatever it has done to hide."""

import socket
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from tests.node.rig import Rig
from tidemill.node.limits.files import CgroupFiles
from tidemill.node.limits.leftovers import remembered

FILES = CgroupFiles()


@dataclass(frozen=True, slots=True)
class Traces:
    """By what processes of one attempt are known: a text in their environments, and users that nobody else is."""

    marker: str
    uids: range

    def processes(self) -> dict[int, str]:
        """Those that are alive, each with the trace that gave it away. Zombies are not: they do nothing any more."""
        found = {}
        for entry in Path("/proc").iterdir():
            if entry.name.isdigit():
                with suppress(OSError):  # it has ended meanwhile, or is nobody's business
                    if why := self._why(entry):
                        found[int(entry.name)] = why
        return found

    def _why(self, entry: Path) -> str:
        status = dict(line.split(":\t", 1) for line in (entry / "status").read_text().splitlines() if ":\t" in line)
        if status["State"][0] in "ZX":
            return ""
        if int(status["Uid"].split()[0]) in self.uids:
            return f"user {status['Uid'].split()[0]}, {status['Name']}, {status['State']}"
        if self.marker.encode() in (entry / "environ").read_bytes():
            return f"environment, {status['Name']}, {status['State']}"
        return ""


def in_groups(rig: Rig) -> list[int]:
    """The processes in groups of the node, and in groups that those might have made."""
    found = []
    for folder in remembered(rig.data / "node" / "groups"):
        groups = [group for group in FILES.children(folder) if not group.endswith("/node")]
        while groups:
            group = groups.pop()
            with suppress(FileNotFoundError):  # it has been removed meanwhile, so nothing is in it
                found += [int(pid) for pid in FILES.read(f"{group}/cgroup.procs").split()]
                groups += FILES.children(group)
    return found


def listens(port: int) -> bool:
    """Whether anybody on this machine accepts connections there."""
    with socket.socket() as client:
        client.settimeout(5)
        return client.connect_ex(("127.0.0.1", port)) == 0


def mounts(pid: int) -> list[str]:
    """The mounts that a process sees."""
    return Path(f"/proc/{pid}/mountinfo").read_text().splitlines()


def names(folder: Path, owner: Callable[[int], bool]) -> list[str]:
    """What lies in ``folder`` and is a file of somebody that ``owner`` takes."""
    found = []
    for entry in folder.iterdir():
        with suppress(OSError):
            if owner(entry.stat(follow_symlinks=False).st_uid):
                found.append(entry.name)
    return sorted(found)
