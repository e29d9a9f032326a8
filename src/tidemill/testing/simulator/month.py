"""What becomes of a world a month after the calm: all that has ended is forgotten, by servers that die over it."""

from datetime import datetime
from typing import Final

from sqlalchemy import Connection, func, select

from tidemill.model.ids import ExecutionKey, InputSetKey, oldest_key
from tidemill.model.states import JobState
from tidemill.store import inputs, ranges, schema
from tidemill.store.inputs import NewInputs
from tidemill.store.ranges import Range
from tidemill.testing.sim import WORKSPACE
from tidemill.testing.simulator.world import World

FORGET_TRIES: Final = 60
# past the 30 days for which things are kept, however the wall clock was set
_RETENTION_S: Final = 40 * 86_400.0
_TABLES: Final = schema.metadata.tables
_GONE: Final = (
    "execution", "execution_alias", "task", "attempt", "result", "task_range", "log_block", "input_set", "input_chunk",
    "build", "forgotten", "tick", "job_trigger",
)  # fmt: skip


def forget(world: World) -> list[str]:
    """A month later: servers die while they forget, and in the end nothing is left of what has ended."""
    now = world.wall.now()
    world.sim.database.write(lambda connection: _abandon(connection, now))
    world.let_time_pass(_RETENTION_S)
    world.points.armed = True
    for _ in range(FORGET_TRIES):
        swept = world.sweep()
        if broken := world.sim.violations():
            return broken
        if swept:
            left = world.sim.database.read(_left)
            return [f"{count} rows are left of {name}" for name, count in left.items() if count]
    return [f"what has expired was not forgotten in {FORGET_TRIES} sweeps"]


def _abandon(connection: Connection, now: datetime) -> None:
    """What two requests have stored whose executions were never made."""
    key = oldest_key(int(now.timestamp() * 1000))
    left = NewInputs(key=InputSetKey(key), workspace=WORKSPACE, total=1, size_bytes=2)
    inputs.add(connection, left, list(inputs.encode([b"{}"])), now=now)
    ranges.add(connection, ExecutionKey(key), [Range(first_position=0, first_index=0, count=1)])


def _left(connection: Connection) -> dict[str, int]:
    """Rows of what has ended, by table."""
    jobs = schema.job.c
    counts = {name: connection.scalar(select(func.count()).select_from(_TABLES[name])) or 0 for name in _GONE}
    ended = select(func.count()).where(jobs.state == JobState.TERMINATED.value)
    return {**counts, "deleted jobs": connection.scalar(ended) or 0}
