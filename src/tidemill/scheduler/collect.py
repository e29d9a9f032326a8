"""Fetching log blocks from nodes: into files first, into the index second, forgotten by the node last."""

import threading
from datetime import UTC, datetime

from tidemill.blobs.logfiles import LogFiles
from tidemill.model.errors import EngineUnavailable
from tidemill.model.ids import NodeId
from tidemill.model.lease import LogBatch, LogBlock, Position
from tidemill.scheduler.parts import Parts
from tidemill.store import log_blocks, nodes
from tidemill.store.log_blocks import Place


class Collector:
    """One thread that fetches what nodes were said to have. A block that is fetched twice is kept once."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        self._condition = threading.Condition()
        self._waiting: set[NodeId] = set()
        self._stopping = False
        self._thread = threading.Thread(target=self._run, name="tidemill-collect", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def notify(self, node: NodeId) -> None:
        """Log blocks wait at ``node``."""
        with self._condition:
            self._waiting.add(node)
            self._condition.notify_all()

    def stop(self) -> None:
        """Fetch no more."""
        with self._condition:
            self._stopping = True
            self._condition.notify_all()

    def join(self) -> None:
        self._thread.join()

    def _run(self) -> None:
        while (node := self._next()) is not None:
            source = f"logs of {node}"
            try:
                while not self._stopping and collect(self._parts, node):
                    pass
                self._parts.problems.clear(source)
            except EngineUnavailable as error:
                self._parts.problems.report(source, error.message)
                self._rest()
            except Exception as error:  # noqa: BLE001 - the top of a loop: said, and tried again
                self._parts.problems.report(source, f"{type(error).__name__}: {error}")
                self._rest()

    def _next(self) -> NodeId | None:
        with self._condition:
            self._condition.wait_for(lambda: self._stopping or bool(self._waiting))
            return None if self._stopping else self._waiting.pop()

    def _rest(self) -> None:
        # the node goes on saying that blocks wait, so it comes back by itself
        with self._condition:
            self._condition.wait_for(lambda: self._stopping, self._parts.policy.look_every_s)


def collect(parts: Parts, node: NodeId) -> bool:
    """Fetch one batch of blocks and keep it, unless another server has; False when none waited. The next call
    acknowledges it.

    Raises EngineUnavailable, OutOfSpace.
    """
    position = parts.database.read(lambda connection: nodes.read_up_to(connection, node)).logs
    batch = parts.engine.logs(node, position, parts.policy.log_batch_bytes)
    if not batch.blocks:
        return False
    _keep(parts, node, batch, position)
    return True


def _keep(parts: Parts, node: NodeId, batch: LogBatch, after: Position) -> None:
    ids = [block.block_id for block in batch.blocks]
    kept = set(parts.database.read(lambda connection: log_blocks.known(connection, node, ids)))
    new: list[tuple[LogBlock, Place]] = []
    position = Position(incarnation=batch.incarnation, number=batch.blocks[-1].number)
    try:
        for block in batch.blocks:
            if block.block_id not in kept:
                kept.add(block.block_id)
                new.append((block, _append(parts.logfiles, node, block)))
        parts.logfiles.sync()
        mine = parts.database.write(
            lambda connection: log_blocks.append(connection, node, new, after=after, position=position),
            urgent=True,
            wakes=False,
        )
    except BaseException:
        parts.logfiles.undo()
        raise
    if mine:
        parts.logfiles.keep()
    else:
        # taken by another server while this one was asleep: the next look begins where that one is
        parts.logfiles.undo()


def _append(files: LogFiles, node: NodeId, block: LogBlock) -> Place:
    """One file per job, hour and node."""
    hour = datetime.fromtimestamp(block.last_at, UTC).strftime("%Y%m%d%H")
    name = f"{block.log_key}/{hour}-{node}.log"
    return Place(file=name, offset=files.append(name, block.data), length=len(block.data))
