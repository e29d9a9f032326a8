"""The OCI runtime: its commands, and what it keeps of the containers of one node."""

import logging
import os
import shutil
import subprocess
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

RUNTIME_NAME: Final = "runc"
# containers of a node that was killed: each takes milliseconds to delete
DELETE_TIMEOUT_S: Final = 20.0

# not every user's PATH holds where Debian puts it
_FOLDERS: Final = f"{os.defpath}:/usr/local/bin:/usr/sbin:/usr/local/sbin:/sbin"

# a node keeps its own files to itself; the directories that the runtime makes to mount at are for all users
_OPEN: Final = ("/bin/sh", "-c", 'umask 022 && exec "$@"', "sh")

log = logging.getLogger(__name__)


def find_runtime() -> Path | None:
    """Where ``runc`` is on this machine; None where it is not."""
    found = shutil.which(RUNTIME_NAME, path=_FOLDERS)
    return None if found is None else Path(found)


@dataclass(frozen=True, slots=True)
class Runtime:
    """``program``, with all that it keeps, and the bundles it is given, below ``folder``: for this node alone."""

    program: Path
    folder: Path

    def open(self) -> None:
        """Make the folder, closed to others: bundles hold secrets until their container is made. Raises OSError."""
        for path in (self.folder, self.state, self.bundles):
            path.mkdir(mode=0o700, exist_ok=True)

    @property
    def state(self) -> Path:
        return self.folder / "state"

    @property
    def bundles(self) -> Path:
        return self.folder / "bundles"

    def bundle(self, name: str) -> Path:
        return self.bundles / name

    def pid_file(self, name: str) -> Path:
        """Whose text is the container's first process, from before ``create`` ends."""
        return self.bundle(name) / "pid"

    def log_file(self, name: str) -> Path:
        return self.bundle(name) / "log"

    def create(self, name: str, descriptors: int) -> list[str]:
        """The container ``name`` of its bundle, waiting to be started. It keeps ``descriptors`` after the first three.

        Its output is that of this command.
        """
        pid_file = ("--pid-file", str(self.pid_file(name)))
        bundle = ("--bundle", str(self.bundle(name)))
        return [*_OPEN, *self._log_to(name), "create", *bundle, *pid_file, "--preserve-fds", str(descriptors), name]

    def start(self, name: str) -> list[str]:
        return [*self._log_to(name), "start", name]

    def run(self, name: str) -> list[str]:
        """Make the container of its bundle, and wait for its end."""
        return [*_OPEN, *self._words(), "run", "--bundle", str(self.bundle(name)), name]

    def delete(self, name: str) -> list[str]:
        """Whatever state it is in: what is alive of it is killed."""
        return [*self._words(), "delete", "--force", name]

    def complaint(self, name: str) -> str:
        """The last line that the runtime has said of a container; "" when it has said nothing."""
        with suppress(OSError):
            lines = self.log_file(name).read_text(errors="replace").splitlines()
            return lines[-1][:500] if lines else ""
        return ""

    def left(self) -> set[str]:
        """The names of containers that there are, be it as a bundle alone."""
        found: set[str] = set()
        for folder in (self.state, self.bundles):
            with suppress(FileNotFoundError):
                found.update(path.name for path in folder.iterdir())
        return found

    def clear(self) -> None:
        """Kill and forget all containers of a node that was killed. Blocks; call it before anything waits for them."""
        for name in sorted(self.left()):
            log.warning("container %s of the node before this one is deleted", name)
            try:
                subprocess.run(
                    self.delete(name), capture_output=True, check=False, timeout=DELETE_TIMEOUT_S, env={}, cwd="/"
                )
            except (OSError, subprocess.SubprocessError) as error:
                log.error("container %s cannot be deleted: %s", name, error)  # noqa: TRY400
                continue
            shutil.rmtree(self.bundle(name), ignore_errors=True)

    def _log_to(self, name: str) -> list[str]:
        # its complaints are not the command's output
        return [*self._words(), "--log", str(self.log_file(name))]

    def _words(self) -> list[str]:
        return [str(self.program), "--root", str(self.state)]
