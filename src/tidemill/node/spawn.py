"""Starting the process of an attempt: by the launcher, or without it where it has not been built."""

import ctypes
import os
import resource
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Protocol

from tidemill.node.isolation.confinement import UNCONFINED, Confinement
from tidemill.node.rulesets import RULESET_FD, UNASKED, Rulesets

NOFILE_SOFT: Final = 65536
CONTROL_FD: Final = 3
ALIVE_FD: Final = 4

SWEEP_S: Final = 1.0

_KB: Final = 1024
_LISTENING: Final = b"listening"
_RULESET: Final = b"ruleset"
_PR_SET_CHILD_SUBREAPER: Final = 36


@dataclass(frozen=True, slots=True, kw_only=True)
class Command:
    """What to start. ``directory`` is its working directory, ``memory_bytes`` its limit of data (None: no limit).

    ``join`` are files of groups that it writes ``0`` to before it is the command (node/limits).

    Without the launcher ``confinement`` is not kept: who starts it knows from the spawner whether there is one.
    """

    words: Sequence[str]
    directory: Path
    environment: Mapping[str, str]
    memory_bytes: int | None
    stdout: int
    stderr: int
    join: Sequence[str] = ()
    confinement: Confinement = UNCONFINED

    def options(self, of_files: Sequence[str] | None = None) -> Iterator[str]:
        """For the launcher's command line. ``of_files``: see Confinement."""
        yield f"--directory={self.directory}"
        yield f"--nofile={NOFILE_SOFT}"
        for file in self.join:
            yield f"--join={file}"
        if self.memory_bytes is not None:
            yield f"--data={self.memory_bytes}"
        yield from self.confinement.options(of_files)


@dataclass(frozen=True, slots=True)
class Started:
    """``start_time`` is what /proc/PID/stat calls so: with the pid, it names a process of this boot for good.

    It runs since ``begun_s`` by the monotonic clock, whenever that is heard.
    """

    pid: int
    start_time: int
    begun_s: float


@dataclass(frozen=True, slots=True)
class Listening:
    """``listener`` listens in the network of a command that has one of its own, and is about to start."""

    listener: socket.socket


@dataclass(frozen=True, slots=True)
class NotStarted:
    """``why`` is set where it must not be started here, whatever ``error`` says."""

    step: str
    error: int
    why: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ended:
    """``status`` is an exit code, or with ``signalled`` the signal. Times and memory are those of the whole tree."""

    signalled: bool
    status: int
    cpu_s: float
    peak_memory_bytes: int


@dataclass(frozen=True, slots=True)
class Vanished:
    """The launcher is gone without having said how its command ended."""


Fact = Listening | Started | NotStarted | Ended | Vanished


class Process(Protocol):
    """A started command. Its ``facts`` are to be asked for right after the start, then whenever ``fd`` is readable."""

    fd: int
    pid: int
    """All processes of the attempt come from this one, or are in its session."""

    def facts(self) -> list[Fact]: ...

    def terminate(self) -> None:
        """SIGTERM to the whole tree."""
        ...

    def kill(self) -> None:
        """SIGKILL to the whole tree."""
        ...

    def close(self) -> None:
        """After the last fact."""
        ...


class LaunchedProcess:
    """A command that the launcher owns (launcher.c says what goes over the socket)."""

    def __init__(
        self, launcher: Path, command: Command, alive_fd: int, on_close: Callable[[int], None], rulesets: Rulesets
    ) -> None:
        """``alive_fd`` is kept open by the launcher until its tree is gone; ``on_close`` gets the pid to be reaped.

        Raises OSError when nothing was started.
        """
        self._on_close = on_close
        self._rulesets = rulesets
        files = command.confinement.files
        self._asked = asked = UNASKED if files is None else rulesets.ask(files)
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
        arguments = ["tidemill-launcher", str(CONTROL_FD), *command.options(asked.options), "--", *command.words]
        try:
            self.pid = os.posix_spawn(
                launcher,
                arguments,
                command.environment,
                file_actions=_launcher_files(theirs.fileno(), command, alive_fd, asked.fd),
            )
        except BaseException:
            ours.close()
            raise
        finally:
            theirs.close()
        self._socket = ours
        self._rest = b""
        self._last: Fact | None = None
        self.fd = ours.fileno()

    def facts(self) -> list[Fact]:
        heard = hear(self._socket, self._rest, self._keep)
        if heard is None:
            return []
        found, self._rest, is_over = heard
        if is_over and (self._last is None or isinstance(self._last, Listening | Started)) and not found:
            found = [Vanished()]
        if found:
            self._last = found[-1]
        return found

    def terminate(self) -> None:
        self._send(b"T")

    def kill(self) -> None:
        self._send(b"K")

    def close(self) -> None:
        self._socket.close()
        self._on_close(self.pid)

    def _keep(self, ruleset: int) -> None:
        assert self._asked.key is not None
        self._rulesets.keep(self._asked.key, ruleset)

    def _send(self, order: bytes) -> None:
        with suppress(OSError):
            self._socket.send(order)


def hear(
    control: socket.socket, rest: bytes, keep: Callable[[int], None] = os.close
) -> tuple[list[Fact], bytes, bool] | None:
    """What a launcher has said behind ``rest``, what is left of that, and whether it says no more; None for nothing.

    ``keep`` gets the ruleset of files that a launcher was asked for.

    Raises ValueError for what no launcher says.
    """
    try:
        data, fds, _flags, _address = socket.recv_fds(control, 4096, 1, socket.MSG_CMSG_CLOEXEC)
    except (BlockingIOError, InterruptedError):
        return None
    except ConnectionError:
        data, fds = b"", []
    *lines, rest = (rest + data).split(b"\n")
    # the kernel keeps what came with a descriptor apart from what came after it
    found: list[Fact] = []
    for fd in fds:
        if lines[-1:] == [_RULESET]:
            keep(fd)
        else:
            found.append(Listening(socket.socket(fileno=fd)))
    found += [_parse_fact(line) for line in lines if line not in {_LISTENING, _RULESET}]
    return found, rest, not data


def _launcher_files(
    control: int, command: Command, alive_fd: int, ruleset_fd: int | None
) -> list[tuple[int, int, int]]:
    # a target must not be the source of a later step: ``alive_fd`` and rulesets lie above all of them
    found = [
        (os.POSIX_SPAWN_DUP2, command.stdout, 1),
        (os.POSIX_SPAWN_DUP2, command.stderr, 2),
        (os.POSIX_SPAWN_DUP2, control, CONTROL_FD),
        (os.POSIX_SPAWN_DUP2, alive_fd, ALIVE_FD),
    ]
    if ruleset_fd is not None:
        found.append((os.POSIX_SPAWN_DUP2, ruleset_fd, RULESET_FD))
    return found


def _parse_fact(line: bytes) -> Fact:
    match line.decode().split():
        case ["started", pid, start_time, begun_us]:
            return Started(int(pid), int(start_time), int(begun_us) / 1e6)
        case ["failed", step, error]:
            return NotStarted(step, int(error))
        case ["ended", how, status, cpu_us, rss_kb]:
            return Ended(
                signalled=how == "signal",
                status=int(status),
                cpu_s=int(cpu_us) / 1e6,
                peak_memory_bytes=int(rss_kb) * _KB,
            )
        case _:
            raise ValueError(f"the launcher said {line!r}")


class PlainProcess:
    """A command in a session of its own: a process of its tree that leaves the session is not found again.

    It is put into its groups when it runs already: what it has started by then is not in them.
    """

    def __init__(self, command: Command) -> None:
        """Raises OSError when nothing was started."""
        self._popen: subprocess.Popen[bytes] = subprocess.Popen(
            command.words,
            cwd=command.directory,
            env=dict(command.environment),
            stdin=subprocess.DEVNULL,
            stdout=command.stdout,
            stderr=command.stderr,
            start_new_session=True,
            umask=0o022,
        )
        self.pid = self._popen.pid
        self._begun_s = time.monotonic()
        try:
            _put(self.pid, command.join)
        except OSError:
            self._kill_group(signal.SIGKILL)
            self._popen.wait()
            raise
        with suppress(OSError, ValueError):
            _limit(self.pid, command.memory_bytes)
        self._started = False
        self.fd = os.pidfd_open(self.pid)

    def facts(self) -> list[Fact]:
        found: list[Fact] = []
        if not self._started:
            self._started = True
            found.append(Started(self._popen.pid, start_time(self._popen.pid), self._begun_s))
        pid, status, used = os.wait4(self._popen.pid, os.WNOHANG)
        if pid:
            self._popen.returncode = os.waitstatus_to_exitcode(status)
            self._kill_group(signal.SIGKILL)
            found.append(
                Ended(
                    signalled=os.WIFSIGNALED(status),
                    status=os.WTERMSIG(status) if os.WIFSIGNALED(status) else os.WEXITSTATUS(status),
                    cpu_s=used.ru_utime + used.ru_stime,
                    peak_memory_bytes=used.ru_maxrss * _KB,
                )
            )
        return found

    def terminate(self) -> None:
        self._kill_group(signal.SIGTERM)

    def kill(self) -> None:
        self._kill_group(signal.SIGKILL)

    def close(self) -> None:
        os.close(self.fd)

    def _kill_group(self, number: int) -> None:
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(self._popen.pid, number)


def _put(pid: int, groups: Sequence[str]) -> None:
    """Put a process into groups. Raises OSError; one that has ended meanwhile is in none."""
    for file in groups:
        with suppress(ProcessLookupError):
            Path(file).write_text(str(pid))


def _limit(pid: int, memory_bytes: int | None) -> None:
    if memory_bytes is not None:
        resource.prlimit(pid, resource.RLIMIT_DATA, (memory_bytes, memory_bytes))
    _, hard = resource.prlimit(pid, resource.RLIMIT_NOFILE)
    soft = NOFILE_SOFT if hard == resource.RLIM_INFINITY else min(NOFILE_SOFT, hard)
    resource.prlimit(pid, resource.RLIMIT_NOFILE, (soft, hard))
    resource.prlimit(pid, resource.RLIMIT_CORE, (0, 0))


def start_time(pid: int) -> int:
    """When process ``pid`` started, in clock ticks since the boot; 0 when there is none."""
    try:
        text = Path(f"/proc/{pid}/stat").read_bytes()
    except OSError:
        return 0
    # a name may hold spaces and brackets; the state, field 3, comes right after it
    return int(text[text.rindex(b")") + 2 :].split()[19])


def boot_id() -> str:
    """Differs after every boot of the machine."""
    return Path("/proc/sys/kernel/random/boot_id").read_text().strip()


class Spawner:
    """Starts commands the best way this machine can."""

    def __init__(self, launcher: Path | None, alive_fd: int) -> None:
        """``alive_fd`` (above 4) is what launchers keep open, and so locked, as long as anything of theirs is alive."""
        self._launcher = launcher
        self._alive_fd = alive_fd
        self._launchers: set[int] = set()
        self._leaving: list[int] = []
        self._expected: dict[int, Path] = {}
        self._rulesets = Rulesets(time.monotonic)
        if launcher is not None:
            _become_subreaper()

    def start(self, command: Command) -> Process:
        """Raises OSError when it could not be started; with the launcher that may also come as a NotStarted."""
        if self._launcher is None:
            return PlainProcess(command)
        process = LaunchedProcess(self._launcher, command, self._alive_fd, self._leaving.append, self._rulesets)
        self._launchers.add(process.pid)
        return process

    def run_ours(
        self, words: list[str], output: tuple[int, int] | None, control: int | None, pid_file: Path | None = None
    ) -> int:
        """Start a program of the node's own, which is nobody's orphan until ``leave``; returns its process number.

        ``output`` are its stdout and stderr, None for nowhere. With ``control`` it gets that descriptor and the alive
        lock as a launcher does. ``pid_file`` is where it writes the number of a process that it leaves to us when it
        ends. Raises OSError.
        """
        files: list[tuple[int, int, int] | tuple[int, int, str, int, int]] = [
            (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0)
        ]
        if output is None:
            files += [(os.POSIX_SPAWN_OPEN, fd, os.devnull, os.O_WRONLY, 0) for fd in (1, 2)]
        else:
            files += [(os.POSIX_SPAWN_DUP2, fd, number) for number, fd in enumerate(output, start=1)]
        if control is not None:
            files += [(os.POSIX_SPAWN_DUP2, control, CONTROL_FD), (os.POSIX_SPAWN_DUP2, self._alive_fd, ALIVE_FD)]
        pid = os.posix_spawn(words[0], words, {"PATH": os.defpath}, file_actions=files)
        self._launchers.add(pid)
        if pid_file is not None:
            self._expected[pid] = pid_file
        return pid

    def own(self, pid: int) -> None:
        """A child that we have inherited is to be kept, as a launcher is."""
        self._launchers.add(pid)

    def leave(self, pid: int) -> None:
        """A child of ours has said its last word, or will: it is reaped by and by."""
        self._expected.pop(pid, None)
        self._leaving.append(pid)

    def reap(self) -> None:
        """Collect the launchers that have said their last word. To be called now and then; it never blocks."""
        if self._leaving:
            left = {pid for pid in self._leaving if _has_left(pid)}
            self._launchers -= left
            # in place: processes that are to close were given this very list
            self._leaving[:] = [pid for pid in self._leaving if pid not in left]

    def sweep(self) -> None:
        """Kill what a launcher that was killed has left: children of ours that are no launchers.

        Blocks until all are gone, a second at most; it takes a task that kills its launcher to need this.
        """
        deadline = time.monotonic() + SWEEP_S
        while (orphans := _children() - self._launchers - self._left_to_us()) and time.monotonic() < deadline:
            for pid in orphans:
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            for pid in orphans:
                _has_left(pid)

    def _left_to_us(self) -> set[int]:
        """Who was left to us by a program of ours whose end nobody has looked at yet."""
        found: set[int] = set()
        for file in self._expected.values():
            with suppress(OSError, ValueError):
                found.add(int(file.read_text()))
        return found


def _become_subreaper() -> None:
    """Inherit the orphans of launchers that were killed; a launcher that lives inherits those of its own tree."""
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def _children() -> set[int]:
    own = os.getpid()
    return {int(entry.name) for entry in os.scandir("/proc") if entry.name.isdigit() and _parent(entry.path) == own}


def _parent(process: str) -> int:
    try:
        text = Path(process, "stat").read_bytes()
    except OSError:
        return 0
    return int(text[text.rindex(b")") + 2 :].split()[1])


def _has_left(pid: int) -> bool:
    try:
        return os.waitpid(pid, os.WNOHANG)[0] == pid
    except ChildProcessError:
        return True
