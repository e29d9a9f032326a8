"""What one command is confined to, in the words of the launcher (launcher.c says what each option does)."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from tidemill.model.volume import Volume


@dataclass(frozen=True, slots=True, kw_only=True)
class Files:
    """All that a command may open: ``read`` to read and to run, ``write`` for everything; each with all below it.

    Paths are absolute. What there is to ``read`` may be missing, what there is to ``write`` may not. ``common`` are the
    options for what all commands may open beside: there are some dozens, which need to be put into words once.
    """

    read: tuple[Path, ...] = ()
    write: tuple[Path, ...] = ()
    common: tuple[str, ...] = ()

    def options(self) -> list[str]:
        return [*self.common, *(f"--read={path}" for path in self.read), *(f"--write={path}" for path in self.write)]


@dataclass(frozen=True, slots=True, kw_only=True)
class Confinement:
    """What is None, False or empty is not asked for. What is asked for and cannot be done: the command does not start.

    ``alone``: nobody else is ``uid``.
    ``uid`` is the user, and the group of the same number, to run as; ``processes`` the most processes and threads of
    that user. ``volumes`` are mounted for the command alone. ``show`` are paths that ``uid`` shall reach whatever the
    modes of the directories above them.
    ``apart``: it may not change the limits and the priority of other processes of its user.
    ``network`` False: a loopback of its own, and nothing else; ``listen`` is a port of it, at which the node listens.
    ``within``: the command makes a place and starts a launcher in it, which gets what it needs as descriptors.
    """

    uid: int | None = None
    alone: bool = False
    processes: int | None = None
    network: bool = True
    volumes: tuple[Volume, ...] = ()
    listen: int | None = None
    show: tuple[Path, ...] = ()
    files: Files | None = None
    powerless: bool = False
    calls: bool = False
    apart: bool = False
    within: bool = False

    def options(self, of_files: Sequence[str] | None = None) -> Iterator[str]:
        """For the launcher's command line; empty when nothing is asked for. ``of_files``: what to say of ``files``."""
        yield from self._of_network()
        if self.uid is not None:
            yield f"--uid={self.uid}"
        if self.alone:
            yield "--alone"
        if self.processes is not None:
            yield f"--nproc={self.processes}"
        yield from self._of_mounts()
        if self.files is not None:
            yield from ("--files", *self.files.options()) if of_files is None else of_files
        if self.powerless:
            yield "--powerless"
        if self.calls:
            yield "--calls"
        if self.apart:
            yield "--apart"
        if self.within:
            yield "--within"

    def _of_mounts(self) -> Iterator[str]:
        for path in self.show:
            yield f"--show={path}"
        for volume in self.volumes:
            yield f"--volume={volume.size_mb << 20}:{'ro' if volume.read_only else 'rw'}:{volume.path}"

    def _of_network(self) -> Iterator[str]:
        if not self.network:
            yield "--network=none"
        if self.listen is not None:
            yield f"--listen={self.listen}"


UNCONFINED = Confinement()
