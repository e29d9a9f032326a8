"""An execution with its first tasks as JSON. Those that have ended never change: they are read and rendered once."""

import threading
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import takewhile
from typing import Final

from tidemill.api.wire import Json, render
from tidemill.api.wire_executions import brief_view, execution_frame, task_limits, task_view
from tidemill.model.execution import Task
from tidemill.model.ids import ExecutionKey
from tidemill.model.states import TASK_FINAL
from tidemill.store.shown import Opened
from tidemill.store.task_names import NAME_PREFIX
from tidemill.store.tasks import FirstTasks

KEPT_BYTES: Final = 8 << 20


@dataclass(frozen=True, slots=True)
class _Text:
    """So many tasks as members of two JSON lists: of ``spec.tasks``, and of ``tasks``."""

    count: int = 0
    brief: bytes = b""
    whole: bytes = b""

    def __add__(self, other: "_Text") -> "_Text":
        if not self.count or not other.count:
            return self if self.count else other
        return _Text(self.count + other.count, self.brief + b"," + other.brief, self.whole + b"," + other.whole)

    @property
    def size(self) -> int:
        return len(self.brief) + len(self.whole)


class EndedTasks:
    """What is kept of executions: the tasks that all have ended, from the first one on. Any thread may use it.

    At most ``most_bytes`` are kept, of those executions that were asked for last.
    """

    def __init__(self, most_bytes: int = KEPT_BYTES) -> None:
        self._most_bytes = most_bytes
        self._kept: OrderedDict[ExecutionKey, _Text] = OrderedDict()
        self._size = 0
        self._lock = threading.Lock()

    def answer(self, read: Callable[[Callable[[ExecutionKey], int]], Opened]) -> bytes:
        """A JobExecution object. ``read`` is given how to ask how many of an execution's first tasks may be skipped."""
        ended = _Text()

        def known(execution: ExecutionKey) -> int:
            nonlocal ended
            ended = self._of(execution)
            return ended.count

        opened = read(known)
        first, limits = opened.first, task_limits(opened.execution)
        more = list(takewhile(_has_ended, first.tasks))
        if more:
            ended += _rendered(more, limits)
            self._keep(opened.execution.key, ended)
        text = ended + _rendered(first.tasks[len(more) :], limits) + _repeated(first, limits)
        frame = execution_frame(opened.execution, opened.reruns)
        spec = render(frame.pop("spec"))[:-1]
        return b"".join(
            (
                *(render(frame)[:-1], b',"spec":', spec, b',"tasks":[', text.brief, b"]}"),
                *(b',"tasks":[', text.whole, b"]}"),
            )
        )

    def _of(self, execution: ExecutionKey) -> _Text:
        with self._lock:
            found = self._kept.get(execution)
            if found is None:
                return _Text()
            self._kept.move_to_end(execution)
            return found

    def _keep(self, execution: ExecutionKey, ended: _Text) -> None:
        with self._lock:
            before = self._kept.pop(execution, _Text())
            self._kept[execution] = best = max(before, ended, key=lambda text: text.count)
            self._size += best.size - before.size
            while self._size > self._most_bytes:
                self._size -= self._kept.popitem(last=False)[1].size


def _has_ended(task: Task) -> bool:
    """Whether nothing of it changes any more. What was cancelled has no time yet while its execution is ending."""
    return task.state in TASK_FINAL and task.completed_at is not None


def _rendered(tasks: Sequence[Task], limits: Mapping[str, Json]) -> _Text:
    brief = render([brief_view(task, limits) for task in tasks])[1:-1]
    return _Text(len(tasks), brief, render([task_view(task, limits) for task in tasks])[1:-1])


def _repeated(first: FirstTasks, limits: Mapping[str, Json]) -> _Text:
    """The tasks without rows: one is rendered, and the others are it under other names."""
    indices = [b"%d" % index for index in first.rowless]
    brief = _renamed(render(brief_view(first.waiting, limits)), first.waiting, indices)
    return _Text(len(indices), brief, _renamed(render(task_view(first.waiting, limits)), first.waiting, indices))


def _renamed(text: bytes, task: Task, indices: Sequence[bytes]) -> bytes:
    # its name is the first member of all, so nothing else that says the same is met before it
    before, name, after = text.partition(f'"{NAME_PREFIX}{task.index}"'.encode())
    assert name
    before, after = before + f'"{NAME_PREFIX}'.encode(), b'"' + after
    return before + (after + b"," + before).join(indices) + after if indices else b""
