"""What changed in a workspace, in order, for whoever was told up to a number."""

from dataclasses import dataclass

from tidemill.model.errors import Gone, Invalid
from tidemill.model.principal import Principal
from tidemill.service import executions
from tidemill.service.parts import Parts
from tidemill.store import events
from tidemill.store.events import Asked, Page


@dataclass(frozen=True, slots=True, kw_only=True)
class Watch:
    """Which events are wanted; None and "" for all. ``execution`` is a whole id."""

    job: str = ""
    execution: str = ""
    tasks: bool = True


def watch(parts: Parts, principal: Principal, wanted: Watch) -> Watch:
    """The same with the execution's whole id for a prefix. Four statements at most. Raises NotFound, Invalid.

    A job is not looked for: one that is yet to be made can be watched.
    """
    if not wanted.execution:
        return wanted
    found = executions.find(parts, principal, wanted.job or None, wanted.execution)
    return Watch(job=found.job, execution=found.id, tasks=wanted.tasks)


def newest(parts: Parts) -> int:
    """The number of the last event there is. One statement."""
    return parts.database.read(events.newest)


def page(parts: Parts, principal: Principal, wanted: Watch, after: int, limit: int) -> Page:
    """Events after a number. Three statements.

    Raises Gone where some of them were swept, Invalid for a number that was not given yet.
    """
    asked = Asked(
        workspace=principal.workspace,
        after=after,
        limit=limit,
        job=wanted.job,
        execution=wanted.execution,
        tasks=wanted.tasks,
    )
    found = parts.database.read(lambda connection: events.find_page(connection, asked))
    if 0 < after < found.swept:
        raise Gone(
            f"after is {after}; events up to {found.swept} are no longer kept: look at the executions themselves, then "
            f"go on from {found.newest}"
        )
    if after > found.newest:
        raise Invalid(f"after is {after}; the newest event is {found.newest}")
    return found
