"""Whom the triggers of a job tell of their executions' ends: a row a trigger, with the secret it is signed with.

URL and retries of a row are those in force. A trigger that a deploy under way brings has its row already, for its
secret is shown to whoever sent the deploy; it gets its URL with the activation.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final

from sqlalchemy import Connection, delete, insert, select, update

from tidemill.model.callback import Callback, callbacks_of, ids
from tidemill.model.errors import NotFound
from tidemill.model.ids import JobKey
from tidemill.model.states import DeliveryState
from tidemill.store import schema, specs

_CALLBACK: Final = schema.callback.c
_JOB: Final = schema.job.c
_REVISION: Final = schema.revision.c
_OUTBOX: Final = schema.outbox.c


@dataclass(frozen=True, slots=True, kw_only=True)
class NewSecret:
    """A secret for the row ``key``, sealed for it."""

    key: int
    secret: str = field(repr=False)
    sealed: str = field(repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Rotation:
    """``secret`` is sealed for the row that it replaces the secret of. The older one is good until ``older_until``."""

    sealed: str = field(repr=False)
    older_sealed: str = field(repr=False)
    older_until: datetime | None


def secure(connection: Connection, job: JobKey, make: Callable[[], NewSecret], *, now: datetime) -> Mapping[str, str]:
    """Give each callback of the job, in force or staged, a secret; forget those of callbacks that are gone.

    The secrets that were made, by trigger. Three statements without callbacks; else up to six and two each.
    """
    live, coming = in_force(connection, job), staged(connection, job)
    rows = connection.execute(select(_CALLBACK.key, _CALLBACK.trigger_id).where(_CALLBACK.job == job)).all()
    wanted = ids(live) | ids(callbacks_of(coming))
    known = {row.trigger_id for row in rows}
    gone = [row.key for row in rows if row.trigger_id not in wanted]
    if gone:
        connection.execute(delete(schema.callback).where(_CALLBACK.key.in_(gone)))
    made = {trigger: make() for trigger in sorted(wanted - known)}
    if made:
        connection.execute(
            insert(schema.callback),
            [
                {"key": new.key, "job": job, "trigger_id": trigger, "secret_sealed": new.sealed, "created_at": now}
                for trigger, new in made.items()
            ],
        )
        _point(connection, job, live)
    return {trigger: new.secret for trigger, new in made.items()}


def in_force(connection: Connection, job: JobKey) -> list[Callback]:
    """The callbacks of the job's triggers as they are now. One statement, by primary key."""
    row = connection.execute(select(_JOB.extra, _JOB.active_revision).where(_JOB.key == job)).one()
    return list(callbacks_of(row.extra.get("spec", {}).get("triggers"))) if row.active_revision else []


def staged(connection: Connection, job: JobKey) -> object:
    """``spec.triggers`` as a deploy that is under way brings them; None without one. One statement, by primary keys."""
    document = connection.scalar(
        select(_REVISION.spec)
        .join(schema.job, (_JOB.key == _REVISION.job) & (_JOB.staged_revision == _REVISION.id))
        .where(_JOB.key == job)
    )
    return None if document is None else specs.decode(document).extra.get("triggers")


def point(connection: Connection, job: JobKey, triggers: object) -> None:
    """``triggers`` (of a spec, as they are kept) are in force now. One statement, and two for each that is another one.

    What waits to be told goes where its trigger's callback goes now.
    """
    _point(connection, job, callbacks_of(triggers))


def find(connection: Connection, workspace: str, name: str, trigger: str) -> schema.AnyRow:
    """A row (key, secret_sealed) of the job that has this name now. Two statements. Raises NotFound."""
    job = connection.scalar(
        select(_JOB.key).where(_JOB.workspace == workspace, _JOB.name == name, _JOB.terminated_at.is_(None))
    )
    if job is None:
        raise NotFound(f"no job {name!r} in workspace {workspace!r}")
    row = connection.execute(
        select(_CALLBACK.key, _CALLBACK.secret_sealed).where(_CALLBACK.job == job, _CALLBACK.trigger_id == trigger)
    ).one_or_none()
    if row is None:
        raise NotFound(f"no trigger {trigger[:64]!r} with a callbackUrl in job {name!r}")
    return row


def rotate(connection: Connection, key: int, rotation: Rotation) -> None:
    """Sign with another secret from now on. One statement, by primary key."""
    connection.execute(
        update(schema.callback)
        .where(_CALLBACK.key == key)
        .values(secret_sealed=rotation.sealed, older_sealed=rotation.older_sealed, older_until=rotation.older_until)
    )


def _point(connection: Connection, job: JobKey, callbacks: Iterable[Callback]) -> None:
    wanted = {callback.trigger: callback for callback in callbacks}
    rows = connection.execute(
        select(_CALLBACK.key, _CALLBACK.trigger_id, _CALLBACK.url, _CALLBACK.retries).where(_CALLBACK.job == job)
    ).all()
    for row in rows:
        callback = wanted.get(row.trigger_id)
        url, retries = (callback.url, callback.retries) if callback is not None else ("", 0)
        if (row.url, row.retries) == (url, retries):
            continue
        receiver = callback.receiver if callback is not None else ""
        connection.execute(
            update(schema.callback).where(_CALLBACK.key == row.key).values(url=url, retries=retries, receiver=receiver)
        )
        connection.execute(
            update(schema.outbox)
            .where(
                _OUTBOX.job == job, _OUTBOX.state == DeliveryState.PENDING.value, _OUTBOX.trigger_id == row.trigger_id
            )
            .values(receiver=receiver)
        )
