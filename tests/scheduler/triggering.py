"""A job with triggers in the simulator's store, and the trigger clock over it, both driven by the test."""

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import select

from tidemill.model.ids import JobKey
from tidemill.model.region import Regions
from tidemill.scheduler.fire import TriggerClock
from tidemill.scheduler.head_start import HeadStart
from tidemill.service.specs import Editor, SpecChange
from tidemill.store import job_writes, schema
from tidemill.store.job_writes import JobWrite, MetadataChange
from tidemill.testing.sim import WORKSPACE, Given, Sim


def at(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


def cron(
    schedule: str = "* * * * *", name: str = "t1", *, enabled: bool = True, **configuration: Any
) -> dict[str, Any]:
    """A trigger as the wire keeps it."""
    kept = {"schedule": schedule, **configuration}
    return {"id": name, "type": "cron", "enabled": enabled, "configuration": kept}


@dataclass
class Clockwork:
    """``clock`` is the life of one server; ``restart`` begins another."""

    sim: Sim
    keys: int = 1_000_000
    clock: TriggerClock = field(init=False)

    def __post_init__(self) -> None:
        self.restart()

    def restart(self) -> None:
        self.clock = self.another()

    def another(self, head_start: HeadStart | None = None) -> TriggerClock:
        return TriggerClock(
            database=self.sim.database,
            steady=self.sim.clock.seconds,
            regions=Regions(),
            keys=self._keys_of,
            head_start=head_start,
        )

    def _keys_of(self, _: datetime) -> Iterator[int]:
        while True:
            self.keys += 1
            yield self.keys

    def deploy(self, *triggers: dict[str, Any], job: str = "etl", workspace: str = WORKSPACE) -> None:
        """A job that may run, with these triggers."""
        self.sim._make(Given(job=job, workspace=workspace))
        self.put(job=job, workspace=workspace, extra={"triggers": list(triggers)})

    def put(self, *, job: str = "etl", workspace: str = WORKSPACE, **change: Any) -> None:
        """What a PUT does."""
        now = self.sim.clock.now
        write = JobWrite(
            key=JobKey(1),
            workspace=workspace,
            name=job,
            by="tester",
            metadata=MetadataChange(),
            editor=Editor(change=replace(SpecChange(), **change), regions=Regions(), keyring=self.sim.keyring),
            upload=None,
        )
        self.sim.database.write(lambda connection: job_writes.put(connection, write, now=now))

    def delete(self, job: str = "etl") -> None:
        now = self.sim.clock.now
        self.sim.database.write(lambda connection: job_writes.remove(connection, WORKSPACE, job, now=now))

    def look(self, when: str | None = None) -> datetime | None:
        """The clock looks, at this time or now."""
        if when is not None:
            self.sim.clock.now = at(when)
        return self.clock.tick(self.sim.ticker.term, self.sim.clock.now)

    def ticks(self, trigger: str = "t1") -> list[tuple[str, str]]:
        """(due time, outcome or reason) in order; a run of missed ones as FIRST..LAST."""
        tick = schema.tick.c
        query = select(schema.tick).where(tick.trigger_id == trigger).order_by(tick.job, tick.due_at)
        rows = self.sim.database.read(lambda connection: connection.execute(query).all())
        return [(_span(row.since, row.due_at), row.reason or row.outcome) for row in rows]

    def executions(self) -> list[Any]:
        """Rows of what triggers started, in order."""
        execution = schema.execution.c
        query = select(schema.execution).where(execution.trigger_id != "").order_by(execution.key)
        return list(self.sim.database.read(lambda connection: connection.execute(query).all()))

    def trigger(self, name: str = "t1") -> Any:
        trigger = schema.job_trigger.c
        query = select(schema.job_trigger).where(trigger.id == name)
        return self.sim.database.read(lambda connection: connection.execute(query).one_or_none())


def _span(since: datetime, due_at: datetime) -> str:
    last = f"{due_at:%d %H:%M}"
    return last if since == due_at else f"{since:%d %H:%M}..{last}"
