"""The groups of a node's attempts, made and removed without holding up its loop."""

import logging
import os
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Final

from tidemill.node.limits.groups import Control, Group, GroupLimits, Usage
from tidemill.node.limits.probe import Groups
from tidemill.node.loop import READ, Loop, Timer

# the kernel tells of its kill just before it makes it; both are one step on its side
_LOOK_AGAIN_S: Final = 0.005
_LOOKS: Final = 8

_REMOVE_AGAIN_S: Final = 0.005
_REMOVE_LONGEST_S: Final = 1.0

log = logging.getLogger(__name__)


class Kept:
    """The group of one attempt: its process joins, ``close`` ends it."""

    def __init__(self, loop: Loop, group: Group) -> None:
        self._loop = loop
        self._group = group
        self._event: int | None = None
        self._look: Timer | None = None
        self._on_oom: Callable[[], None] | None = None
        self._last = Usage()

    @property
    def join(self) -> Sequence[str]:
        """Files that the process writes ``0`` to before it is the command."""
        return self._group.join

    @property
    def limits(self) -> GroupLimits:
        return self._group.limits

    @property
    def counts_memory(self) -> bool:
        return Control.MEMORY in self._group.controls

    def when_out_of_memory(self, action: Callable[[], None]) -> None:
        """Call ``action`` once in the loop if the kernel kills some of the group, but not all, for its memory."""
        try:
            self._event = self._group.oom_event()
        except OSError as error:
            log.warning("group %s is not told of kills for memory: %s", self._group.name, error)
            return
        if self._event is not None:
            self._on_oom = action
            self._loop.watch(self._event, READ, self._notified)

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
        """Kill what is left of it, and remove it, now or as soon as the kernel lets it go."""
        self._stop_listening()
        self._remove(_REMOVE_AGAIN_S)

    def _notified(self, _events: int) -> None:
        assert self._event is not None
        with suppress(BlockingIOError):
            os.eventfd_read(self._event)
        if self._look is None:
            self._look_for_kill(_LOOKS)

    def _look_for_kill(self, looks: int) -> None:
        """The event also comes when the kernel has found something to take back instead of killing."""
        self._look = None
        if self.usage().oom_kills and self._on_oom is not None:
            action, self._on_oom = self._on_oom, None
            action()
        elif looks:
            pause_s = _LOOK_AGAIN_S * 2 ** (_LOOKS - looks)
            self._look = self._loop.call_later(pause_s, lambda: self._look_for_kill(looks - 1))

    def _stop_listening(self) -> None:
        # before it is removed: that is told of by the same event
        if self._look is not None:
            self._look.cancel()
        if self._event is not None:
            self._loop.forget(self._event)
            os.close(self._event)
            self._event = None

    def _remove(self, again_s: float) -> None:
        try:
            if self._group.remove():
                return
        except OSError as error:
            log.warning("group %s is not removed: %s", self._group.name, error)
        self.kill()
        longer_s = min(_REMOVE_LONGEST_S, again_s * 2)
        if again_s < longer_s == _REMOVE_LONGEST_S:
            log.warning("processes of group %s do not end", self._group.name)
        self._loop.call_later(again_s, lambda: self._remove(longer_s))


class Keeper:
    """Makes the groups of a node's attempts."""

    def __init__(self, loop: Loop, groups: Groups, *, pids: int, cpu_quota: bool) -> None:
        self._loop = loop
        self._groups = groups
        self._pids = pids
        self._cpu_quota = cpu_quota

    def make(self, name: str, memory_bytes: int) -> Kept | None:
        """The group of an attempt, None where there are none. Raises OSError when it could not be made."""
        limits = GroupLimits(memory_bytes=memory_bytes, pids=self._pids, cpu_quota=self._cpu_quota)
        group = self._groups.make(name, limits)
        return None if group is None else Kept(self._loop, group)
