"""One attempt that has been started: its process, its pipes, its clock, and how it is judged."""

import errno
import fcntl
import os
import signal
import struct
import termios
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Final, assert_never

from tidemill.model.lease import BuildLease, Lease, Outcome, OutcomeKind, Severity, Stream, TaskLease
from tidemill.node.arguments import ArgumentsServer, Listener
from tidemill.node.environment import RESULT_FILE, Invocation
from tidemill.node.events import Events
from tidemill.node.holding import Holding
from tidemill.node.isolation.protocol import Isolation, Refused
from tidemill.node.isolation.users import Seat
from tidemill.node.journal import Running
from tidemill.node.limits.groups import Usage
from tidemill.node.limits.keeper import Keeper, Kept
from tidemill.node.loop import READ, Loop, Timer
from tidemill.node.memory import Watch, Watched
from tidemill.node.output.blocks import Blocks, Source
from tidemill.node.output.lines import LineSplitter, severity_of
from tidemill.node.rooms import Rooms
from tidemill.node.spawn import Command, Ended, Fact, Listening, NotStarted, Process, Spawner, Started, Vanished
from tidemill.node.workdir import TaskResult, read_result

READ_BYTES: Final = 64 << 10
# between two looks at its memory a task can fill far less; what asks for more at once is refused it
DATA_HEADROOM_BYTES: Final = 1 << 30
# without the launcher a process that left the session may hold a pipe open for ever
DRAIN_S: Final = 1.0
BUILD_RESULT_MAX_BYTES: Final = 1 << 20
# what a build exits with when the machine, not the user, is at fault (node/build/__main__.py)
BUILD_CANNOT_NOW: Final = 75

_ERROR_PREFIX: Final = "error: "
_INT: Final = struct.Struct("i")
_MB: Final = 1 << 20
# too little of something at this moment: another try, perhaps elsewhere, is right
# steps of the launcher that only some jobs ask for: another try would fail as well
_ASKED_FOR: Final = {
    "network": "the task could not be kept from the network",
    "volume": "the job's volumes could not be mounted",
}
_SHORTAGES: Final = frozenset({errno.EAGAIN, errno.ENOMEM, errno.EMFILE, errno.ENFILE, errno.ENOSPC})


class Reason(Enum):
    """Why a node ends an attempt before it ends itself."""

    TIMED_OUT = "timed out"
    CANCELLED = "cancelled"
    EXPIRED = "expired"
    PLANNED = "planned"
    OUT_OF_MEMORY = "out of memory"
    OUT_OF_DISK = "out of disk"
    STARVED = "starved"


@dataclass(frozen=True, slots=True, kw_only=True)
class Tools:
    """What runs share."""

    loop: Loop
    spawner: Spawner
    isolation: Isolation
    arguments: ArgumentsServer
    blocks: Blocks
    events: Events
    memory: Watch[int]
    disk: Watch[Path]
    rooms: Rooms
    keeper: Keeper
    holding: Holding


class Run:
    """Started by ``start``; calls ``on_end`` once, with the outcome, when nothing of it is left."""

    def __init__(
        self, tools: Tools, lease: Lease, seat: Seat, work: Path, on_end: "Callable[[Run, Outcome], None]"
    ) -> None:
        self.lease = lease
        self.seat = seat
        self.work = work
        self._tools = tools
        self._on_end = on_end
        self._source = Source(lease.attempt, lease.log_key, lease.log_max_bytes)
        self._pipes: dict[int, tuple[Stream, LineSplitter]] = {}
        self._process: Process | None = None
        self._fact: Fact | None = None
        self._reason: Reason | None = None
        self._started_at: float | None = None
        self._timeout: Timer | None = None
        self._kill: Timer | None = None
        self._kill_at: float | None = None
        self._drain: Timer | None = None
        self._watched: Watched[int] | None = None
        self._weighed: Watched[Path] | None = None
        self._group: Kept | None = None
        self._listener: Listener | None = None
        self._usage = Usage()
        self._said_error = ""

    def start(self, invocation: Invocation) -> None:
        """What goes wrong is the outcome."""
        try:
            self._group = self._make_group()
        except OSError as error:
            self._fact = NotStarted("group", error.errno or errno.EINVAL)
            self._finish()
            return
        theirs: list[int] = []
        try:
            for stream in (Stream.STDOUT, Stream.STDERR):
                theirs.append(self._open_pipe(stream))  # noqa: PERF401 - those before one that fails are closed below
            command = Command(
                words=invocation.words,
                directory=invocation.directory,
                environment=invocation.environment,
                # where the kernel counts what is used, a bound on what is asked for would only be in the way
                memory_bytes=None if self._is_counted else self._memory_bytes + DATA_HEADROOM_BYTES,
                stdout=theirs[0],
                stderr=theirs[1],
                join=() if self._group is None else self._group.join,
            )
            process = self._tools.isolation.start(self.seat, invocation.needs, command)
        except Refused as error:
            self._fact = NotStarted("isolation", errno.EOPNOTSUPP, str(error))
            self._finish()
            return
        except (OSError, ValueError) as error:
            self._fact = NotStarted("exec", getattr(error, "errno", None) or errno.EINVAL)
            if self._fact.error in {errno.EMFILE, errno.ENFILE}:
                # groups that wait for an attempt have files open
                self._tools.keeper.let_go()
            self._finish()
            return
        finally:
            for fd in theirs:
                os.close(fd)
        self._process = process
        self._tools.loop.watch(process.fd, READ, self._process_ready)
        self._process_ready(READ)

    @property
    def left_nothing(self) -> bool:
        """Once it has ended: whether its end was seen, so that nothing of it is alive for sure."""
        return not isinstance(self._fact, Vanished)

    def stop(self, reason: Reason, grace_s: float) -> None:
        """SIGTERM to the whole tree, SIGKILL after ``grace_s``. The first reason counts, the shortest grace too."""
        if self._process is None or self._fact is not None:
            return
        if self._reason is None:
            self._reason = reason
            self._process.terminate()
        kill_at = self._tools.loop.monotonic + max(0.0, grace_s)
        if self._kill_at is not None and self._kill_at <= kill_at:
            return
        self._kill_at = kill_at
        if self._kill is not None:
            self._kill.cancel()
        if grace_s <= 0:
            self._kill_all()
        else:
            self._kill = self._tools.loop.call_later(grace_s, self._kill_all)

    @property
    def _memory_bytes(self) -> int:
        return self.lease.memory_mb << 20

    @property
    def _disk_bytes(self) -> int | None:
        """What its directory may hold; builds hold what they unpack and install."""
        if isinstance(self.lease, BuildLease) or self.lease.disk_mb is None:
            return None
        return self.lease.disk_mb << 20

    def make_room(self) -> None:
        """Make its directory, and know from then on where it lies. Raises OSError."""
        self.work = self._tools.rooms.make(self.work, self._disk_bytes)

    @property
    def _is_counted(self) -> bool:
        """Whether the kernel counts the memory of the whole tree, and limits it."""
        return self._group is not None and self._group.counts_memory

    def _make_group(self) -> Kept | None:
        group = self._tools.keeper.make(self._memory_bytes)
        if group is not None and group.counts_memory:
            group.when_out_of_memory(self._outgrew)
        return group

    def _kill_all(self) -> None:
        # in one step where the kernel can; the launcher finds what forks only as fast as it can list it
        if self._group is not None:
            self._group.kill()
        if self._process is not None:
            self._process.kill()

    def _open_pipe(self, stream: Stream) -> int:
        ours, theirs = os.pipe()
        os.set_blocking(ours, False)
        self._pipes[ours] = (stream, LineSplitter())
        self._tools.loop.watch(ours, READ, lambda _events: self._pipe_ready(ours))
        return theirs

    def _process_ready(self, _events: int) -> None:
        if self._process is None:
            return
        for fact in self._process.facts():
            match fact:
                case Listening(listener):
                    self._listener = self._tools.arguments.serve_at(listener)
                case Started():
                    self._has_started(fact)
                case _:
                    self._has_ended(fact)

    def _has_started(self, fact: Started) -> None:
        loop = self._tools.loop
        self._started_at = loop.now - (loop.monotonic - fact.begun_s)
        had = self._tools.holding.of(self.seat)
        self._tools.events.started(self.lease.attempt, Running(fact.pid, fact.start_time, had))
        self._timeout = self._tools.loop.call_later(
            self.lease.timeout_s, lambda: self.stop(Reason.TIMED_OUT, self.lease.grace_s)
        )

        if self._process is not None and not self._is_counted:
            self._watched = self._tools.memory.add(self._process.pid, self._memory_bytes, self._outgrew)

        if self._disk_bytes is not None and not self._tools.rooms.mounts:
            self._weighed = self._tools.disk.add(self.work, self._disk_bytes, self._overflowed)

    def _outgrew(self) -> None:
        self.stop(Reason.OUT_OF_MEMORY, 0.0)

    def _overflowed(self) -> None:
        self.stop(Reason.OUT_OF_DISK, 0.0)

    def _has_ended(self, fact: Fact) -> None:
        self._fact = fact
        if self._watched is not None:
            self._tools.memory.remove(self._watched)
        if self._weighed is not None:
            self._tools.disk.remove(self._weighed)
        for timer in (self._timeout, self._kill):
            if timer is not None:
                timer.cancel()
        self._close_group()
        if isinstance(fact, Vanished):
            # the kernel has killed the command with its launcher, but not what the command had started
            self._tools.spawner.sweep()
        for fd in list(self._pipes):
            self._read_what_is_there(fd)
        if not self._pipes:
            self._finish()
        else:
            self._drain = self._tools.loop.call_later(DRAIN_S, self._finish)

    def _close_group(self) -> None:
        """Read what it has used, and kill what is left of it: without the launcher that may be much."""
        if self._group is not None:
            self._usage = self._group.usage()
            self._group.close()
            self._group = None

    def _pipe_ready(self, fd: int) -> None:
        self._read(fd)

    def _read_what_is_there(self, fd: int) -> None:
        """Up to its end, or what is in it now: who still has it open may write faster than anybody reads."""
        left = bytes_in(fd)
        while left >= 0 and (taken := self._read(fd)):
            left -= taken

    def _read(self, fd: int) -> int:
        """Take one piece of output; its bytes. 0 when there is none now, or the pipe is done."""
        stream, splitter = self._pipes[fd]
        try:
            data = os.read(fd, READ_BYTES)
        except (BlockingIOError, InterruptedError):
            return 0
        if data and self._source.dropping:
            return len(data)
        for text in splitter.feed(data) if data else splitter.finish():
            self._keep(stream, text)
        if not data:
            self._close_pipe(fd)
            if not self._pipes and self._drain is not None:
                self._drain.cancel()
                self._finish()
        return len(data)

    def _keep(self, stream: Stream, text: str) -> None:
        severity: Severity = severity_of(stream, text)
        if text.startswith(_ERROR_PREFIX) and stream is Stream.STDERR:
            self._said_error = text.removeprefix(_ERROR_PREFIX)
        self._source.take(self._tools.blocks, stream, severity, text)

    def _close_pipe(self, fd: int) -> None:
        del self._pipes[fd]
        self._tools.loop.forget(fd)
        os.close(fd)

    def _finish(self) -> None:
        for fd, (stream, splitter) in list(self._pipes.items()):
            for text in splitter.finish():
                self._keep(stream, text)
            self._close_pipe(fd)
        if self._process is not None:
            self._tools.loop.forget(self._process.fd)
            self._process.close()
            self._process = None
        if self._listener is not None:
            # the last that keeps its network in the kernel
            self._listener.close()
            self._listener = None
        self._close_group()
        self._on_end(self, self._outcome())

    def _outcome(self) -> Outcome:
        assert self._fact is not None
        used = self._fact if isinstance(self._fact, Ended) else None
        peak_bytes = self._peak_bytes(used)
        verdict = judge(self.lease, self._fact, self._why(), peak_bytes, self._said_error)
        cpu_s = self._usage.cpu_s
        if cpu_s is None and used is not None:
            cpu_s = used.cpu_s
        result = TaskResult()
        if used is not None:
            limit = BUILD_RESULT_MAX_BYTES if isinstance(self.lease, BuildLease) else self.lease.result_max_bytes
            result = read_result(self.work / RESULT_FILE, limit)
        return Outcome(
            kind=verdict.kind,
            exit_code=verdict.exit_code,
            signal=verdict.signal,
            message=verdict.message + self._refusals(verdict),
            started_at=self._started_at,
            ended_at=self._tools.loop.now,
            peak_memory_bytes=peak_bytes or None,
            cpu_s=cpu_s,
            result=result.text,
            result_error=result.error,
            planned=self._reason is Reason.PLANNED,
            protections=None if self._started_at is None else self._tools.holding.of(self.seat),
        )

    def _why(self) -> Reason | None:
        """What we did to it comes before what the kernel did, unless that was the reason for it."""
        if self._reason not in {None, Reason.OUT_OF_MEMORY}:
            return self._reason
        if self._usage.starved and not self._usage.oom_kills:
            return Reason.STARVED
        return Reason.OUT_OF_MEMORY if self._usage.oom_kills else self._reason

    def _peak_bytes(self, used: Ended | None) -> int:
        """The most memory that the tree has used, as far as anybody knows; 0 when nobody does."""
        if self._usage.peak_bytes is not None:
            return self._usage.peak_bytes
        # exact, but only of the biggest process; what was seen is the whole tree now and then
        biggest = used.peak_memory_bytes if used is not None else 0
        return max(biggest, self._watched.peak_bytes if self._watched is not None else 0)

    def _refusals(self, verdict: "Verdict") -> str:
        """What a failed attempt may have failed of, and could not say itself."""
        if not self._usage.pids_refused or verdict.kind not in {OutcomeKind.EXIT_CODE, OutcomeKind.SIGNAL}:
            return ""
        return f"; it was at its limit of {self._tools.keeper.pids} processes and threads, and was refused more"


def bytes_in(pipe: int) -> int:
    """How many bytes a pipe holds. Raises OSError."""
    count: int = _INT.unpack(fcntl.ioctl(pipe, termios.FIONREAD, bytes(_INT.size)))[0]
    return count


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    kind: OutcomeKind
    message: str = ""
    exit_code: int | None = None
    signal: int | None = None


def judge(lease: Lease, fact: Fact, reason: Reason | None, peak_bytes: int, said_error: str) -> Verdict:
    """How an attempt ended: what we did to it comes before a signal, a signal before an exit code.

    ``peak_bytes`` is the most memory that its tree was seen to use; ``said_error`` is what the last ``error:`` line of
    a build says.
    """
    match fact:
        case NotStarted():
            return _judge_not_started(lease, fact)
        case _ if reason is not None:
            return _judge_stopped(lease, reason, peak_bytes)
        case Vanished():
            return Verdict(kind=OutcomeKind.LOST, message="its launcher was killed")
        case Ended(signalled=True, status=number):
            return Verdict(kind=OutcomeKind.SIGNAL, signal=number, message=f"killed by {_signal_name(number)}")
        case Ended(status=0):
            return Verdict(kind=OutcomeKind.SUCCEEDED, exit_code=0)
        case Ended(status=code) if isinstance(lease, BuildLease):
            if code == BUILD_CANNOT_NOW:
                return Verdict(kind=OutcomeKind.LOST, message=said_error or "the node could not finish the build")
            return Verdict(kind=OutcomeKind.EXIT_CODE, exit_code=code, message=said_error or f"exit code {code}")
        case Ended(status=code):
            return Verdict(kind=OutcomeKind.EXIT_CODE, exit_code=code, message=f"exit code {code}")
        case Listening() | Started():
            raise AssertionError("a start is no end")
    raise AssertionError(fact)


def _judge_not_started(lease: Lease, fact: NotStarted) -> Verdict:
    why = os.strerror(fact.error)
    if fact.why:
        return Verdict(kind=OutcomeKind.LAUNCH_ERROR, message=fact.why)
    if fact.step in _ASKED_FOR and fact.error not in _SHORTAGES:
        return Verdict(kind=OutcomeKind.LAUNCH_ERROR, message=f"{_ASKED_FOR[fact.step]}: {why}")
    if fact.step != "exec" or fact.error in _SHORTAGES or isinstance(lease, BuildLease):
        return Verdict(kind=OutcomeKind.LOST, message=f"the process could not be started ({fact.step}): {why}")
    return Verdict(kind=OutcomeKind.LAUNCH_ERROR, message=f"the command could not be started: {why}")


def _judge_stopped(lease: Lease, reason: Reason, peak_bytes: int) -> Verdict:
    match reason:
        case Reason.OUT_OF_MEMORY:
            peak_mb = -(-peak_bytes // _MB)
            if peak_mb > lease.memory_mb:
                message = f"used {peak_mb} MB of memory, more than its limit of {lease.memory_mb} MB"
            else:
                # a kernel that counts lets nobody over the limit
                message = f"needed more than its limit of {lease.memory_mb} MB of memory; its peak was {peak_mb} MB"
            return Verdict(kind=OutcomeKind.OUT_OF_MEMORY, message=message)
        case Reason.OUT_OF_DISK:
            assert isinstance(lease, TaskLease)
            message = f"its directory held more than the {lease.disk_mb} MB that it may (runtime.diskPercent)"
            return Verdict(kind=OutcomeKind.SIGNAL, signal=signal.SIGKILL, message=message)
        case Reason.STARVED:
            message = (
                f"the machine ran out of memory when it had used {-(-peak_bytes // _MB)} of its {lease.memory_mb} MB"
            )
            return Verdict(kind=OutcomeKind.LOST, message=message)
        case Reason.TIMED_OUT:
            message = f"ran longer than its timeout of {lease.timeout_s:g} s"
            return Verdict(kind=OutcomeKind.TIMED_OUT, message=message)
        case Reason.CANCELLED:
            return Verdict(kind=OutcomeKind.CANCELLED, message="cancelled while it ran")
        case Reason.EXPIRED:
            return Verdict(kind=OutcomeKind.LOST, message="its lease expired: the node heard nothing for too long")
        case Reason.PLANNED:
            return Verdict(kind=OutcomeKind.LOST, message="its node was stopped")
        case _:
            assert_never(reason)


def _signal_name(number: int) -> str:
    try:
        return f"{signal.Signals(number).name} (signal {number})"
    except ValueError:
        return f"signal {number}"
