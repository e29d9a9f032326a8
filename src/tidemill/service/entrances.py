"""The rows of the audit of those who come without a credential: sign-ins, tokens, decisions, uploads.

What was done is written in the unit that does it; what was refused within bounds, since anybody may be refused as often
as they like (docs/decisions/0101).
"""

import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Final

import structlog

from tidemill.model.audit import NOBODY, AuditEntry, AuditOutcome
from tidemill.model.errors import OutOfSpace, Overloaded
from tidemill.model.quoted import quoted
from tidemill.service.audit import Record, key_of
from tidemill.service.guesses import WINDOW, about
from tidemill.service.parts import Parts
from tidemill.store import audit, passwords
from tidemill.store.database import Connection
from tidemill.store.witness import present

REFUSALS_FROM_ONE: Final = 50
"""Most rows of refusals from one address in a window of ``guesses.WINDOW``."""
REFUSALS_IN_ALL: Final = 500
"""Most from all of them: what a flood from everywhere can add is 48,000 rows a day, some 25 MB."""
EMAIL: Final = re.compile(r"[^\s@]{1,64}@[^\s@.]+(?:\.[^\s@.]+)+")
CLIENT_ID: Final = re.compile(r"sa-[0-9a-f-]{36}|[a-z][a-z-]{0,30}")
UNTOLD: Final = "?"
"""Instead of what has not the form that it should have: people type secrets into the wrong field."""
UNRECORDED: Final = "refusals.unrecorded"
"""The action of the row that stands for all further ones of a window."""

_LOG: Final = structlog.get_logger("tidemill.audit")


@dataclass(frozen=True, slots=True, kw_only=True)
class Act:
    """What somebody did, or tried. ``workspace``: whose admins see it. Without an ``actor`` nobody was known."""

    action: str
    resource: str
    workspace: str
    credential: str
    actor: str = ""
    kind: str = NOBODY
    outcome: AuditOutcome = AuditOutcome.SUCCESS
    status: int = 200


Tell = Callable[[Connection, Act], None]


def teller(parts: Parts, *, now: datetime) -> Tell:
    """What a unit of the present request writes its row with, in three statements.

    To be asked for in the request's own thread. Outside of requests there is nobody to write of, and nothing is.
    """
    record = _visit()

    def tell(connection: Connection, act: Act) -> None:
        if record is not None:
            audit.append(connection, _entry(act, record, now), key_of(parts.keyring))

    return tell


def done(parts: Parts, act: Act, *, now: datetime) -> None:
    """The row of what changes nothing else. A unit of three statements; none outside of requests.

    Raises OutOfSpace and Overloaded: what it tells of is not given then.
    """
    if _visit() is not None:
        tell = teller(parts, now=now)
        parts.database.write(lambda connection: tell(connection, act), wakes=False)


def refused(parts: Parts, act: Act, *, now: datetime) -> None:
    """The row of a refusal, unless there were too many lately: then one row for all that follow in the window.

    A statement, and below the bounds a unit of seven. It never fails: whoever is refused is so in any case.
    """
    record = _visit()
    if record is None:
        return
    bounds = [
        (about(parts.keyring, f"refused/{record.counted}"), REFUSALS_FROM_ONE),
        (about(parts.keyring, "refused"), REFUSALS_IN_ALL),
    ]
    tell = teller(parts, now=now)

    def unit(connection: Connection) -> None:
        for name, most in bounds:
            count = passwords.guessed(connection, name, now=now, window=WINDOW)
            if count > most:
                if count == most + 1:
                    tell(connection, replace(act, action=UNRECORDED, resource=""))
                return
        tell(connection, act)

    try:
        # a flood is to cost no commits
        if not parts.database.read(lambda connection: passwords.any_past(connection, bounds, now=now)):
            parts.database.write(unit, wakes=False)
    except (OutOfSpace, Overloaded) as error:
        _LOG.warning("not audited", action=act.action, reason=error.message)


def told(value: str, form: re.Pattern[str]) -> str:
    """What a stranger says of themselves, as a row may hold it: of the right form, bounded and quoted."""
    return quoted(value).encode("utf-8", "backslashreplace").decode() if form.fullmatch(value) else UNTOLD


def _visit() -> Record | None:
    found = present()
    return found if isinstance(found, Record) else None


def _entry(act: Act, record: Record, now: datetime) -> AuditEntry:
    return AuditEntry(
        at=now,
        workspace=act.workspace,
        actor=act.actor,
        actor_kind=act.kind,
        credential=act.credential,
        action=act.action,
        resource=act.resource,
        outcome=act.outcome,
        status=act.status,
        address=record.address,
        request=record.request,
    )
