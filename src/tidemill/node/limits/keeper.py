"""The groups of a node's attempts, made and removed without holding up its loop."""

import itertools
import logging
import os
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Final

from tidemill.node.limits.groups import Control, Group, GroupLimits, Usage
from tidemill.node.limits.probe import Groups
from tidemill.node.loop import READ, Loop, Timer

# groups that wait for an attempt with their limits; more of them than run at once are never needed
SPARE_MAX: Final = 64
# to listen takes the kernel longer than to run a short task; one that lives no longer need not be heard of
LISTEN_AFTER_S: Final = 0.1

# the kernel tells of its kill just before it makes it; both are one step on its side
_LOOK_AGAIN_S: Final = 0.005
_LOOKS: Final = 8

_REMOVE_AGAIN_S: Final = 0.005
_REMOVE_LONGEST_S: Final = 1.0

log = logging.getLogger(__name__)


class Kept:
    """The group of one attempt: its process joins, ``close`` ends it."""

    def __init__(self, loop: Loop, group: Group, on_renewed: Callable[[Group], None]) -> None:
        """``on_renewed`` gets the group when it is as a new one again."""
        self._loop = loop
        self._group = group
        self._on_renewed = on_renewed
        self._event: int | None = None
        self._timer: Timer | None = None
        self._on_oom: Callable[[], None] | None = None
        self._last = Usage()

    @property
    def join(self) -> Sequence[str]:
        """Files that the process writes ``0`` to before it is the command."""
        return self._group.join

    @property
    def counts_memory(self) -> bool:
        return Control.MEMORY in self._group.controls

    def when_out_of_memory(self, action: Callable[[], None]) -> None:
        """Call ``action`` once in the loop if the kernel kills some of the group, but not all, for its memory."""
        self._on_oom = action
        self._timer = self._loop.call_later(LISTEN_AFTER_S, self._listen)

    def usage(self) -> Usage:
        """What it has used; what was known last when the kernel does not say."""
        try:
            self._last = self._group.usage()
        except OSError as error:
            log.warning("group %s does not say what it has used: %s", self._group.name, error)
        return self._last

    def kill(self) -> None:
        with suppress(OSError):
            self._group.kill()

    def close(self) -> None:
        """After the last look at its usage: kill what is left of it, and remove it or keep it for another attempt."""
        self._stop_listening()
        try:
            renewed = self._group.renew(self._last)
        except OSError:
            renewed = False
        if renewed:
            self._on_renewed(self._group)
        else:
            self._remove()

    def _listen(self) -> None:
        self._timer = None
        try:
            self._event = self._group.oom_event()
        except OSError as error:
            log.warning("group %s is not told of kills for memory: %s", self._group.name, error)
        if self._event is not None:
            self._loop.watch(self._event, READ, self._notified)
            # of what came before nobody has told, and what it tells of may be yet to come
            self._look(0)

    def _notified(self, _events: int) -> None:
        assert self._event is not None
        with suppress(BlockingIOError):
            os.eventfd_read(self._event)
        if self._timer is None:
            self._look(0)

    def _look(self, done: int) -> None:
        """The event also comes when the kernel has found something to take back instead of killing."""
        self._timer = None
        usage = self.usage()
        if (usage.oom_kills or usage.starved) and self._on_oom is not None:
            action, self._on_oom = self._on_oom, None
            action()
        elif done < _LOOKS:
            self._timer = self._loop.call_later(_LOOK_AGAIN_S * 2**done, lambda: self._look(done + 1))

    def _stop_listening(self) -> None:
        # before it is removed: that is told of by the same event
        if self._timer is not None:
            self._timer.cancel()
        if self._event is not None:
            self._loop.forget(self._event)
            os.close(self._event)
            self._event = None

    def _remove(self) -> None:
        remove(self._loop, self._group, _REMOVE_AGAIN_S)


def remove(loop: Loop, group: Group, again_s: float = _REMOVE_AGAIN_S) -> None:
    """Remove a group, now or as soon as the kernel lets it go; what is alive in it is killed."""
    try:
        if group.remove():
            return
    except OSError as error:
        log.warning("group %s is not removed: %s", group.name, error)
    with suppress(OSError):
        group.kill()
    longer_s = min(_REMOVE_LONGEST_S, again_s * 2)
    if again_s < longer_s == _REMOVE_LONGEST_S:
        log.warning("processes of group %s do not end", group.name)
    loop.call_later(again_s, lambda: remove(loop, group, longer_s))


class Keeper:
    """Makes the groups of a node's attempts; one that is as a new one again is given to another attempt."""

    def __init__(self, loop: Loop, groups: Groups, *, pids: int, cpu_quota: bool) -> None:
        self.pids = pids
        self._loop = loop
        self._groups = groups
        self._cpu_quota = cpu_quota
        self._numbers = itertools.count(1)
        self._spare: deque[Group] = deque()

    def make(self, memory_bytes: int) -> Kept | None:
        """The group of an attempt, None where there are none. Raises OSError when it could not be made."""
        limits = GroupLimits(memory_bytes=memory_bytes, pids=self.pids, cpu_quota=self._cpu_quota)
        group = self._take_spare(limits) or self._groups.make(str(next(self._numbers)), limits)
        return None if group is None else Kept(self._loop, group, self._keep_spare)

    def let_go(self) -> None:
        """Remove the groups that nobody has: when descriptors run short, and at the end of a node."""
        for group in self._spare:
            with suppress(OSError):
                group.remove()
        self._spare.clear()

    def _take_spare(self, limits: GroupLimits) -> Group | None:
        # the one that was used last is what the caches of the processor know
        for group in reversed(self._spare):
            if group.limits == limits:
                self._spare.remove(group)
                return group
        return None

    def _keep_spare(self, group: Group) -> None:
        self._spare.append(group)
        if len(self._spare) > SPARE_MAX:
            remove(self._loop, self._spare.popleft())
