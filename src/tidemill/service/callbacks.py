"""Callbacks: where they may go, how far they have come, and what they are signed with."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import partial
from typing import Final

from tidemill import secrets
from tidemill.model.callback import Delivery, older_about, secret_about
from tidemill.model.errors import Invalid
from tidemill.model.ids import JobKey
from tidemill.model.principal import Principal
from tidemill.model.quoted import quoted
from tidemill.outgoing.guard import Guard, Refused
from tidemill.service import executions
from tidemill.service.parts import Parts
from tidemill.store import callbacks, outbox
from tidemill.store.callbacks import Rotation
from tidemill.store.database import Connection
from tidemill.store.outbox import DeliveryPage

MAX_OVERLAP_S: Final = 7 * 86_400
DEFAULT_OVERLAP_S: Final = 86_400


@dataclass(frozen=True, slots=True, kw_only=True)
class Rotated:
    """The secret of a trigger's callback from now on, shown this once; the older one is good until ``older_until``."""

    trigger: str
    secret: str = field(repr=False)
    older_until: datetime


def check(guard: Guard, extra: Mapping[str, object]) -> None:
    """Whether the triggers in ``extra`` of a request's spec may have their callbacks. Raises Invalid."""
    triggers = extra.get("triggers")
    for number, trigger in enumerate(triggers if isinstance(triggers, list) else ()):
        url = trigger.get("configuration", {}).get("callbackUrl")
        if not url:
            continue
        try:
            guard.target(url)
        except Refused as error:
            path = f"spec.triggers[{number}].configuration.callbackUrl"
            raise Invalid(f"{path} is {quoted(url)}: {error}") from None


def job_of(parts: Parts, principal: Principal, job: str) -> JobKey:
    """The job that has this name, or had it last. Two statements at most. Raises NotFound."""
    return executions.history(parts, principal, job).job


def find_page(parts: Parts, page: DeliveryPage) -> list[tuple[int, Delivery]]:
    """Deliveries with their keys. See ``store.outbox.find_page``."""
    return parts.database.read(partial(outbox.find_page, page=page))


def replay(parts: Parts, principal: Principal, job: str, execution: str, *, now: datetime) -> Delivery:
    """Deliver the callback of an execution again. One unit of five statements, and two reads.

    Raises NotFound, Invalid for several.
    """
    key = job_of(parts, principal, job)
    return parts.database.write(lambda connection: outbox.replay(connection, key, execution, now=now))


def replay_parked(parts: Parts, principal: Principal, job: str, *, now: datetime) -> int:
    """Deliver all parked callbacks of the job again; how many. One unit for each 1,000 of them. Raises NotFound."""
    key, total = job_of(parts, principal, job), 0
    # what is parked meanwhile is left alone: the loop ends
    while found := parts.database.write(lambda connection: outbox.replay_parked(connection, key, now=now)):
        total += found
        if found < outbox.REPLAYED_AT_ONCE:
            break
    return total


def rotate(parts: Parts, principal: Principal, job: str, trigger: str, overlap_s: int, *, now: datetime) -> Rotated:
    """Sign with a fresh secret; whoever refuses it is shown the older one for ``overlap_s`` more seconds.

    One unit of three statements. Raises NotFound, Invalid.
    """
    if not 0 <= overlap_s <= MAX_OVERLAP_S:
        raise Invalid(f"overlap is {quoted(overlap_s)}; it must be 0 to {MAX_OVERLAP_S} seconds")
    secret = secrets.new_callback_secret()
    older_until = now + timedelta(seconds=overlap_s)

    def rotate_secret(connection: Connection) -> None:
        row = callbacks.find(connection, principal.workspace, job, trigger)
        older = parts.keyring.open(row.secret_sealed, secret_about(row.key))
        rotation = Rotation(
            sealed=parts.keyring.seal(secret, secret_about(row.key)),
            older_sealed=parts.keyring.seal(older, older_about(row.key)) if overlap_s else "",
            older_until=older_until if overlap_s else None,
        )
        callbacks.rotate(connection, row.key, rotation)

    parts.database.write(rotate_secret)
    return Rotated(trigger=trigger, secret=secret, older_until=older_until)
