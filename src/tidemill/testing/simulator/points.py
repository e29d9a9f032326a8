"""Where a server may die: before and after each commit, each engine call and each write of a file, all with names."""

import functools
import math
import random
import types
from collections import Counter
from collections.abc import Callable
from typing import Any, Final, TypeVar, cast

from sqlalchemy import Connection, event
from sqlalchemy.exc import OperationalError

from tidemill.blobs import Blobs
from tidemill.blobs.logfiles import LogFiles
from tidemill.engine.fake import METHODS
from tidemill.engine.protocol import Engine
from tidemill.model.errors import OutOfSpace
from tidemill.store.database import Database

T = TypeVar("T")

ENGINE_CALLS: Final = frozenset(METHODS)
BLOB_WRITES: Final = frozenset({"move", "take_file"})
LOG_WRITES: Final = frozenset({"append", "sync", "keep", "undo"})
UNITS: Final = frozenset(
    {
        "deploys.drop_expired",
        "events.sweep",
        "executions.create",
        "forgotten.forget",
        "forgotten.purge",
        "inputs.add",
        "inputs.drop_unused",
        "job_writes.create",
        "job_writes.put",
        "job_writes.remove",
        "ledger.cancel_execution",
        "ledger.time_out_executions",
        "ledger_claim.claim",
        "ledger_claim.promote",
        "ledger_settle.settle",
        "log_blocks.append",
        "nodes.seen",
        "nodes.take_term",
        "nodes.told",
        "outbox.forget",
        "outdated.forget_builds",
        "outdated.forget_jobs",
        "ranges.add",
        "ranges.drop_unmade",
        "reruns.create",
        "ticks.fire",
        "ticks.sweep",
        "tokens.sweep",
        "triggers.give_inputs",
        "triggers.replan",
        "uploads.begin",
        "uploads.take",
    }
)
"""The units of work that a simulated server writes."""
OF_TRIGGERS: Final = frozenset({"ticks.fire", "triggers.give_inputs", "triggers.replan"})
"""Those of worlds with triggers alone."""
NOWHERE: Final = "nowhere"
"""A target that is no point: no server dies."""
_FIRST_STATEMENTS: Final = 6


def catalogue() -> list[str]:
    """The names of all points."""
    steps = [f"commit of {unit}" for unit in UNITS]
    steps += [f"engine.{call}" for call in ENGINE_CALLS]
    steps += [f"blobs.{write}" for write in BLOB_WRITES]
    steps += [f"logfiles.{write}" for write in LOG_WRITES]
    return sorted(f"{when} {step}" for step in steps for when in ("before", "after"))


class Died(BaseException):
    """The server is gone: nothing that comes after the point has happened. No ``except Exception`` holds it up."""


class Points:
    """Decides who dies where, by dice. Points that were seldom passed are likelier than those passed all the time.

    With ``target`` servers die there and nowhere else, at first each time. ``exposed`` are the points that were passed
    when servers could die.
    """

    def __init__(self, dice: random.Random, rate: float, target: str = "") -> None:
        self._dice = dice
        self._rate = rate
        self._target = target
        self.armed = False
        self.passed: Counter[str] = Counter()
        self.exposed: set[str] = set()
        self.deaths: Counter[str] = Counter()

    def deadly(self, point: str) -> bool:
        """Whether the server that passes ``point`` dies there."""
        self.passed[point] += 1
        if not self.armed:
            return False
        self.exposed.add(point)
        if self._dice.random() >= self._chance(point):
            return False
        self.deaths[point] += 1
        return True

    def _chance(self, point: str) -> float:
        if self._target:
            return math.pow(0.7, self.deaths[point]) if point == self._target else 0.0
        return self._rate / math.pow(self.passed[point], 0.6)


class Life:
    """What the parts of one server have in common: that they are alive, and what may happen while they work.

    ``meanwhile`` is called at every point, for what other threads and machines do between two steps of this one.
    ``full`` says whether the disk is full right now.
    """

    def __init__(self, points: Points, meanwhile: Callable[[], None], full: Callable[[], bool]) -> None:
        self._points = points
        self._meanwhile = meanwhile
        self.full = full
        self.dead = False

    def reach(self, point: str) -> None:
        """Pass a point, or die there. Raises Died."""
        self._still_alive(point)
        self._meanwhile()
        self._still_alive(point)  # what happened meanwhile may have killed it
        if self._points.deadly(point):
            self.dead = True
        self._still_alive(point)

    def _still_alive(self, point: str) -> None:
        if self.dead:
            raise Died(point)

    def step(self, name: str, effect: Callable[[], T]) -> T:
        """Do ``effect`` between two points. Raises Died, and what ``effect`` raises."""
        self.reach(f"before {name}")
        value = effect()
        self.reach(f"after {name}")
        return value


class MortalDatabase:
    """The database as one life of a server has it. A unit is done whole or not at all: that is SQLite's promise."""

    def __init__(self, inner: Database, life: Life, dice: random.Random) -> None:
        self._inner = inner
        self._life = life
        self._dice = dice

    def write(self, work: Callable[[Connection], T], *, urgent: bool = False, wakes: bool = True) -> T:
        """Raises Died, and OutOfSpace at any of its statements or at the commit while the disk is full."""
        done = work
        if self._life.full():
            done = _spoiled(work, self._dice.randrange(_FIRST_STATEMENTS))
        return self._life.step(f"commit of {label(work)}", lambda: self._inner.write(done, urgent=urgent, wakes=wakes))

    def read(self, work: Callable[[Connection], T]) -> T:
        """Raises Died."""
        if self._life.dead:
            raise Died("read")
        return self._inner.read(work)


class Mortal:
    """Any other part: the methods named are steps, the others are the part's own."""

    def __init__(self, inner: object, kind: str, steps: frozenset[str], life: Life) -> None:
        self._inner = inner
        self._kind = kind
        self._steps = steps
        self._life = life

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._inner, name)
        if name not in self._steps:
            return found

        def step(*args: object, **named: object) -> object:
            return self._life.step(f"{self._kind}.{name}", lambda: found(*args, **named))

        return step


class _FullLogFiles:
    """Log files on a disk that may be full: half of what is appended fits."""

    def __init__(self, inner: LogFiles, life: Life) -> None:
        self._inner = inner
        self._life = life

    def append(self, name: str, data: bytes) -> int:
        """Raises OutOfSpace."""
        if self._life.full():
            self._inner.append(name, data[: len(data) // 2])
            raise OutOfSpace(f"the log file {name} cannot be written; free disk space")
        return self._inner.append(name, data)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)


def mortal_database(inner: Database, life: Life, dice: random.Random) -> Database:
    """``inner`` as a server of this life has it."""
    # the scheduler and the world's users call nothing but write and read
    return cast("Database", MortalDatabase(inner, life, dice))


def mortal_engine(inner: Engine, life: Life) -> Engine:
    """``inner`` as a server of this life calls it."""
    # every name that is not a step is the engine's own
    return cast("Engine", Mortal(inner, "engine", ENGINE_CALLS, life))


def mortal_blobs(inner: Blobs, life: Life) -> Blobs:
    """``inner`` as a server of this life writes it."""
    # every name that is not a step is the blob store's own
    return cast("Blobs", Mortal(inner, "blobs", BLOB_WRITES, life))


def mortal_logfiles(inner: LogFiles, life: Life) -> LogFiles:
    """``inner`` as a server of this life writes it."""
    # every name that is not a step is the log files' own
    return cast("LogFiles", Mortal(_FullLogFiles(inner, life), "logfiles", LOG_WRITES, life))


def label(work: Callable[..., object]) -> str:
    """What a unit of work is called: ``MODULE.FUNCTION`` of the store's function that it is made of."""
    if isinstance(work, functools.partial):
        return label(work.func)
    if not isinstance(work, types.FunctionType) or work.__name__ != "<lambda>":
        return f"{work.__module__.rpartition('.')[2]}.{work.__name__}"
    names = iter(work.__code__.co_names)
    for name in names:
        found = work.__globals__.get(name)
        if isinstance(found, types.ModuleType):
            found = getattr(found, next(names))
        if isinstance(found, types.FunctionType):
            return label(found)
    return f"{work.__module__.rpartition('.')[2]}.{work.__qualname__}"


def _spoiled(work: Callable[[Connection], T], statements: int) -> Callable[[Connection], T]:
    """``work`` on a full disk: the first ``statements`` of it fit, and if those are all, the commit does not."""

    def spoiled(connection: Connection) -> T:
        left = statements

        def count(*_: object) -> None:
            nonlocal left
            left -= 1
            if left < 0:
                raise _full()

        event.listen(connection, "before_cursor_execute", count)
        try:
            work(connection)
        finally:
            event.remove(connection, "before_cursor_execute", count)
        raise _full()

    spoiled.__name__ = getattr(work, "__name__", "spoiled")
    return spoiled


def _full() -> OperationalError:
    return OperationalError("", None, Exception("database or disk is full"))
