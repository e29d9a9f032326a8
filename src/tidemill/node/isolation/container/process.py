"""One command in a container, from its creation to the proof that nothing of it is alive.

The runtime makes the container, and is gone; its first process, which is the launcher, is then ours, for the node
is a subreaper. The launcher says over its socket what it says anywhere, so the exit status is the command's own.
"""

import errno
import logging
import os
import select
import shutil
import signal
import socket
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from enum import Enum
from pathlib import Path
from typing import Final

from tidemill.node.isolation.container.bundle import CONFIG_FILE, LAUNCHER_INSIDE
from tidemill.node.isolation.container.runtime import Runtime
from tidemill.node.spawn import (
    CONTROL_FD,
    Command,
    Ended,
    Fact,
    Listening,
    NotStarted,
    Spawner,
    Started,
    hear,
    start_time,
)

# control socket and alive lock
_KEPT_DESCRIPTORS: Final = 2

log = logging.getLogger(__name__)


class _Step(Enum):
    CREATING = "creating"
    STARTING = "starting"
    RUNNING = "running"
    OVER = "over"


class ContainerProcess:
    """See Process (node/spawn.py). ``fd`` is readable whenever one of all that it waits for has something to say."""

    def __init__(
        self,
        runtime: Runtime,
        name: str,
        command: Command,
        spawner: Spawner,
        describe: Callable[[list[str]], str],
    ) -> None:
        """``describe`` is given the words that its first process is, and returns the text of config.json.

        Raises OSError when nothing was started.
        """
        self._runtime = runtime
        self._name = name
        self._spawner = spawner
        self._join = command.join
        self._step = _Step.CREATING
        self._kill_first = False
        self._rest = b""
        self._is_deaf = False
        self._said_last: Fact | None = None
        self._error = 0
        bundle = runtime.bundle(name)
        bundle.mkdir(mode=0o700)
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
        try:
            # it is put into its groups from outside, where they can be seen
            options = replace(command, join=()).options()
            words = [LAUNCHER_INSIDE, str(CONTROL_FD), *options, "--", *command.words]
            (bundle / CONFIG_FILE).touch(mode=0o600)
            (bundle / CONFIG_FILE).write_text(describe(words), errors="surrogateescape")
            create = runtime.create(name, _KEPT_DESCRIPTORS)
            output = (command.stdout, command.stderr)
            self.pid = spawner.run_ours(create, output, theirs.fileno(), runtime.pid_file(name))
        except BaseException:
            ours.close()
            shutil.rmtree(bundle, ignore_errors=True)
            raise
        finally:
            theirs.close()
        # the runtime's command, and after it the container's first process
        self._watched = os.pidfd_open(self.pid)
        self._socket = ours
        self._poll = select.epoll()
        self.fd = self._poll.fileno()
        for descriptor in (ours.fileno(), self._watched):
            self._poll.register(descriptor, select.EPOLLIN)

    def facts(self) -> list[Fact]:
        found: list[Fact] = []
        if self._step is _Step.CREATING:
            self._after_create()
        if self._step is _Step.STARTING:
            self._after_start()
        found += self._hear()
        if self._step is _Step.RUNNING:
            found += self._after_end()
        if self._error and self._step is not _Step.OVER:
            self._step = _Step.OVER
            found = [NotStarted("container", self._error)]
        return found

    def terminate(self) -> None:
        # before the launcher is there the order waits for it in the socket
        self._send(b"T")

    def kill(self) -> None:
        self._send(b"K")
        if self._step is _Step.CREATING:
            self._kill_first = True
        else:
            self._kill_init()

    def close(self) -> None:
        self._kill_init()
        self._poll.close()
        self._socket.close()
        os.close(self._watched)
        self._spawner.leave(self.pid)
        # what the runtime keeps of it goes without us; the bundle is ours
        with suppress(OSError):
            self._spawner.leave(self._spawner.run_ours(self._runtime.delete(self._name), None, None))
        shutil.rmtree(self._runtime.bundle(self._name), ignore_errors=True)

    def _after_create(self) -> None:
        status = _exit_status(self.pid)
        if status is None:
            return
        # it holds the command's secrets
        (self._runtime.bundle(self._name) / CONFIG_FILE).unlink(missing_ok=True)
        if status != 0:
            self._fail("created", errno.EIO)
            return
        creator, self.pid = self.pid, int(self._runtime.pid_file(self._name).read_text())
        self._spawner.own(self.pid)
        self._spawner.leave(creator)
        self._rewatch(os.pidfd_open(self.pid))
        if self._kill_first:
            self._step = _Step.RUNNING
            self._kill_init()
            return
        try:
            for file in self._join:
                Path(file).write_text(str(self.pid))
            self._starter = self._spawner.run_ours(self._runtime.start(self._name), None, None)
            self._starting = os.pidfd_open(self._starter)
        except OSError as error:
            self._fail(f"put into its groups or started: {error}", error.errno or errno.EIO)
            return
        self._poll.register(self._starting, select.EPOLLIN)
        self._step = _Step.STARTING

    def _after_start(self) -> None:
        status = _exit_status(self._starter)
        if status is None:
            return
        self._spawner.leave(self._starter)
        self._poll.unregister(self._starting)
        os.close(self._starting)
        self._step = _Step.RUNNING
        # one that was killed meanwhile has ended, which is seen by its process
        if status != 0 and _is_alive(self._watched):
            self._fail("started", errno.EIO)

    def _after_end(self) -> list[Fact]:
        """How it ended, once its first process is gone: the kernel has killed all others of the container with it."""
        try:
            pid, status, used = os.wait4(self.pid, os.WNOHANG)
        except ChildProcessError:
            # somebody has reaped it for us, and how it ended went with it
            pid, status, used = self.pid, signal.SIGKILL, None
        if not pid:
            return []
        self._step = _Step.OVER
        self._poll.unregister(self._watched)
        late = self._hear()
        if isinstance(self._said_last, Ended | NotStarted):
            return [*late, self._said_last]
        number = os.WTERMSIG(status) if os.WIFSIGNALED(status) else signal.SIGKILL
        cpu_s = 0.0 if used is None else used.ru_utime + used.ru_stime
        return [*late, Ended(signalled=True, status=number, cpu_s=cpu_s, peak_memory_bytes=0)]

    def _hear(self) -> list[Fact]:
        """What the launcher has said, but how it ended: it still is a process of the container when it says so."""
        heard = hear(self._socket, self._rest)
        if heard is None or self._is_deaf:
            return []
        said, self._rest, self._is_deaf = heard
        if self._is_deaf:
            self._poll.unregister(self._socket.fileno())
        found: list[Fact] = []
        for fact in said:
            self._said_last = fact
            if isinstance(fact, Started):
                # the number it gave is of the container's own count
                found.append(Started(self.pid, start_time(self.pid), fact.begun_s))
            elif isinstance(fact, Listening):
                found.append(fact)
        return found

    def _fail(self, what: str, number: int) -> None:
        log.error("container %s could not be %s: %s", self._name, what, self._runtime.complaint(self._name))
        self._error = number

    def _rewatch(self, descriptor: int) -> None:
        self._poll.unregister(self._watched)
        os.close(self._watched)
        self._watched = descriptor
        self._poll.register(descriptor, select.EPOLLIN)

    def _kill_init(self) -> None:
        with suppress(OSError):
            signal.pidfd_send_signal(self._watched, signal.SIGKILL)

    def _send(self, order: bytes) -> None:
        with suppress(OSError):
            self._socket.send(order)


def _exit_status(pid: int) -> int | None:
    """The exit code of a child of ours that has ended, negative for a signal; None while it runs."""
    found, status = os.waitpid(pid, os.WNOHANG)
    return os.waitstatus_to_exitcode(status) if found else None


def _is_alive(pidfd: int) -> bool:
    return not select.select([pidfd], [], [], 0)[0]
