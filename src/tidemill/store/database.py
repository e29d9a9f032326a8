"""SQLite with one writer and group commit; readers apart. Units of work are plain functions of a connection."""

import fcntl
import os
import queue
import sqlite3
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final, Generic, Literal, TypeVar

from sqlalchemy import Connection as Connection
from sqlalchemy import Engine, create_engine, event
from sqlalchemy.exc import DBAPIError
from sqlalchemy.pool import ConnectionPoolEntry, NullPool

from tidemill.model.errors import Conflict, OutOfSpace, Overloaded, TidemillError
from tidemill.store import migrate
from tidemill.store.checkpoints import STEP_BYTES, WRITER_PAGES, Checkpoints
from tidemill.store.compiled import shared
from tidemill.store.events import MILESTONES, NEWS
from tidemill.store.outbox import DELIVERIES
from tidemill.store.readers import BUSY_MS, Readers, driver_of
from tidemill.store.witness import Witness, present

T = TypeVar("T")

# in the data directory
DATABASE_NAME: Final = "tidemill.db"
MAX_WAITING: Final = 1_000
_MAX_GROUP: Final = 500
# SQLite's words for "the disk is the problem"; anything else is a bug and keeps its own type
_SPACE_WORDS: Final = ("database or disk is full", "disk I/O error", "readonly database")


class Changes:
    """Counts commits that others may want to know of.

    ``wait`` sleeps until there is a new one; ``call`` is for those who may not sleep.
    """

    def __init__(self) -> None:
        self._condition = threading.Condition()
        self._count = 0
        self._callbacks: set[Callable[[], None]] = set()

    @property
    def count(self) -> int:
        return self._count

    def signal(self) -> None:
        with self._condition:
            self._count += 1
            self._condition.notify_all()
            callbacks, self._callbacks = self._callbacks, set()
        for callback in callbacks:
            callback()

    def call(self, seen: int, callback: Callable[[], None]) -> bool:
        """Have ``callback`` called once, by the thread that signals, when the count differs from ``seen``.

        False when it does so already: then nothing is called.
        """
        with self._condition:
            if self._count != seen:
                return False
            self._callbacks.add(callback)
            return True

    @property
    def is_awaited(self) -> bool:
        """Whether somebody is to be called."""
        return bool(self._callbacks)

    def forget(self, callback: Callable[[], None]) -> None:
        """Do not call it any more."""
        with self._condition:
            self._callbacks.discard(callback)

    def wait(self, seen: int, timeout_s: float | None) -> int:
        """The count, once it differs from ``seen`` or ``timeout_s`` has passed."""
        with self._condition:
            self._condition.wait_for(lambda: self._count != seen, timeout_s)
            return self._count


class _NotAloneError(Exception):
    """A unit's savepoint could not be undone or closed: what it wrote can no longer be told from its group's."""


@dataclass(slots=True)
class _Unit(Generic[T]):
    work: Callable[[Connection], T]
    future: Future[T]
    wakes: bool


class Database:
    """A data directory's SQLite file, opened for as long as this object lives.

    ``write`` and ``submit`` hand a unit of work to the one writer thread. It runs many units in one transaction, a
    savepoint each: a unit that raises is undone alone, a COMMIT that fails fails all of its group. A caller has its
    answer only after COMMIT (WAL, ``synchronous=FULL``).
    """

    def __init__(self, path: Path, *, synchronous: Literal["FULL", "OFF"] = "FULL") -> None:
        """Open, or make, the file at ``path`` and bring its tables up to date.

        ``OFF`` is for simulations and tests only: what was answered outlives this process, but not a loss of power.
        Raises Conflict when another process holds it.
        """
        self.path = path
        self.changes = Changes()
        self.news = Changes()
        """Counts commits that took numbers of events."""
        self.milestones = Changes()
        """Counts those of them that told of a job or an execution: while many tasks run, one in hundreds."""
        self.deliveries = Changes()
        """Counts commits that put something into the outbox."""
        self.problem: str | None = None
        """Why the last group could not be committed, when that was for want of space; else None."""
        self._lock = _lock_file(path.with_suffix(".lock"))
        self._queue: queue.Queue[_Unit[object] | None] = queue.Queue()
        self._waiting = 0
        self._waiting_lock = threading.Lock()
        self._closed = False
        self._writer_engine = _writer(path, synchronous)
        _migrate(self._writer_engine)
        self._readers = Readers(path)
        # to SQLAlchemy it is in one transaction for as long as all goes well; the real ones are the driver's, which
        # begins and ends them in a tenth of the time
        self._connection = self._writer_engine.connect()
        self._driver = driver_of(self._connection)
        self._checkpoints = Checkpoints(path)
        self._thread = threading.Thread(target=self._run, name="tidemill-writer", daemon=True)
        self._thread.start()

    def submit(self, work: Callable[[Connection], T], *, urgent: bool = False, wakes: bool = True) -> Future[T]:
        """Queue a unit of work. ``wakes=False``: its commit is no news for the scheduler (its own writes).

        Raises Overloaded when 1,000 units wait and it is not ``urgent`` (the scheduler's are).
        """
        future: Future[T] = Future()
        with self._waiting_lock:
            if self._closed:
                raise Overloaded("the server is shutting down; send the request again")
            if self._waiting >= MAX_WAITING and not urgent:
                raise Overloaded(f"{MAX_WAITING} writes are waiting for the disk; send the request again")
            self._waiting += 1
            # the queue is of mixed result types: a unit's own future keeps its type
            self._queue.put(_Unit(work, future, wakes))  # type: ignore[arg-type]
        return future

    def write(self, work: Callable[[Connection], T], *, urgent: bool = False, wakes: bool = True) -> T:
        """Run a unit of work and wait until it is committed. Raises what the unit raised.

        The witness of a request sees it, unless ``wakes`` is False: then it only prepares or repeats what is known.
        """
        witness = present() if wakes else None
        if witness is None:
            return self.submit(work, urgent=urgent, wakes=wakes).result()
        value = self.submit(partial(_seen, work, witness), urgent=urgent).result()
        witness.committed()
        return value

    def read(self, work: Callable[[Connection], T]) -> T:
        """Run ``work`` on a read-only snapshot. Keep it short: a page, not an execution."""
        with _plain_errors():
            return self._readers.run(work)

    def close(self) -> None:
        """Commit what is queued, then let go of the file. Idempotent."""
        with self._waiting_lock:
            if self._closed:
                return
            self._closed = True
        self._queue.put(None)
        self._thread.join()
        self._checkpoints.close()
        self._connection.close()
        self._writer_engine.dispose()
        self._readers.close()
        os.close(self._lock)

    def _run(self) -> None:
        while (group := self._next_group()) is not None:
            self._commit(group)
            self._checkpoints.after_commit()

    def _next_group(self) -> list[_Unit[object]] | None:
        """All that waits now, at least one unit. None at the end."""
        first = self._queue.get()
        if first is None:
            return None
        group = [first]
        with suppress(queue.Empty):
            while len(group) < _MAX_GROUP:
                unit = self._queue.get_nowait()
                if unit is None:
                    self._queue.put(None)  # the end is seen again once this group is done
                    break
                group.append(unit)
        with self._waiting_lock:
            self._waiting -= len(group)
        return group

    def _commit(self, group: Sequence[_Unit[object]]) -> None:
        done: list[tuple[_Unit[object], object]] = []
        failed: list[tuple[_Unit[object], BaseException]] = []
        try:
            with _plain_errors(), self._transaction():
                for unit in group:
                    try:
                        done.append((unit, self._one(unit)))
                    except Exception as error:
                        # in the first case SQLite has undone all of it, as it does when the disk is full
                        if not self._in_transaction() or isinstance(error, _NotAloneError):
                            raise
                        failed.append((unit, error))
        except Exception as error:  # noqa: BLE001 - nothing of the group is committed: every caller must know
            failed = [(unit, error) for unit in group]
            done = []
            plain = _plain(error)
            self.problem = plain.message if isinstance(plain, OutOfSpace) else self.problem
        else:
            self.problem = None
        self._wake([unit for unit, _ in done])
        for unit, value in done:
            unit.future.set_result(value)
        for unit, reason in failed:
            unit.future.set_exception(_plain(reason))

    def _wake(self, done: Sequence[_Unit[object]]) -> None:
        """Signal what waits for commits like this one."""
        told, passed, due = (self._connection.info.pop(what, None) for what in (NEWS, MILESTONES, DELIVERIES))
        if any(unit.wakes for unit in done):
            self.changes.signal()
        if told and done:
            self.news.signal()
        if passed and done:
            self.milestones.signal()
        if due and done:
            self.deliveries.signal()

    def _one(self, unit: _Unit[object]) -> object:
        """One unit in a savepoint of its own, so that its failure undoes nothing else."""
        self._driver.execute("SAVEPOINT unit")
        try:
            value = unit.work(self._connection)
        except BaseException:
            if self._in_transaction():
                self._savepoint("ROLLBACK TO unit")
                self._savepoint("RELEASE unit")
            raise
        self._savepoint("RELEASE unit")
        return value

    def _savepoint(self, statement: str) -> None:
        try:
            self._driver.execute(statement)
        except sqlite3.Error as error:
            raise _NotAloneError from error

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        """Committed at its end, undone when that or what is within fails."""
        self._driver.execute("BEGIN IMMEDIATE")
        try:
            yield
            self._driver.execute("COMMIT")
        except BaseException:
            if self._in_transaction():
                self._driver.execute("ROLLBACK")
            # what SQLAlchemy believes to be open within it is gone as well
            self._connection.rollback()
            raise

    def _in_transaction(self) -> bool:
        return self._driver.in_transaction


def read_only(path: Path, work: Callable[[Connection], T]) -> T:
    """Run ``work`` on a snapshot of the file at ``path``, whoever has it open."""
    readers = Readers(path)
    try:
        return readers.run(work)
    finally:
        readers.close()


def _seen(work: Callable[[Connection], T], witness: Witness, connection: Connection) -> T:
    value = work(connection)
    witness.see(connection, value)
    return value


def _lock_file(path: Path) -> int:
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        raise Conflict(
            f"another server holds {path.parent}; stop it with `tidemill stop`, or give this one another --data-dir"
        ) from None
    return descriptor


def _writer(path: Path, synchronous: str) -> Engine:
    engine = shared(
        create_engine(
            f"sqlite:///{path}",
            poolclass=NullPool,
            hide_parameters=True,  # else an error that is logged repeats what users sent
            connect_args={"check_same_thread": False},
        )
    )

    @event.listens_for(engine, "connect")
    def prepare(connection: sqlite3.Connection, _entry: ConnectionPoolEntry) -> None:
        connection.isolation_level = None  # BEGIN is ours
        pragmas = (
            *("journal_mode=WAL", f"synchronous={synchronous}", f"busy_timeout={BUSY_MS}", "cache_size=-65536"),
            # what savepoints keep to undo a unit is never more than a unit writes
            *("temp_store=MEMORY", f"wal_autocheckpoint={WRITER_PAGES}", f"journal_size_limit={STEP_BYTES}"),
        )
        for pragma in pragmas:
            connection.execute(f"PRAGMA {pragma}")

    return engine


def _migrate(engine: Engine) -> None:
    """Migrations are transactions of SQLAlchemy's."""
    event.listen(engine, "begin", _begin)
    try:
        migrate.upgrade(engine)
    finally:
        event.remove(engine, "begin", _begin)


def _begin(connection: Connection) -> None:
    connection.exec_driver_sql("BEGIN IMMEDIATE")


def _plain(error: BaseException) -> BaseException:
    if isinstance(error, _NotAloneError):
        error = error.__cause__ or error
    cause = error.orig if isinstance(error, DBAPIError) else error
    if isinstance(error, DBAPIError | sqlite3.Error) and any(word in str(cause) for word in _SPACE_WORDS):
        return OutOfSpace(f"the database cannot be written: {cause}; free disk space and send it again")
    return error


@contextmanager
def _plain_errors() -> Iterator[None]:
    try:
        yield
    except (DBAPIError, sqlite3.Error) as error:
        plain = _plain(error)
        if isinstance(plain, TidemillError):
            raise plain from error
        raise
