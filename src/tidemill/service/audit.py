"""The audit: one row for each request that changes something, reads secrets or is refused (docs/decisions/0099)."""

from dataclasses import dataclass, replace
from functools import partial
from typing import Final

import structlog

from tidemill.model.audit import AuditEntry, AuditOutcome
from tidemill.model.errors import OutOfSpace, Overloaded
from tidemill.model.job import Job
from tidemill.secrets import KeyRing
from tidemill.service.parts import Parts
from tidemill.store import audit, workspaces
from tidemill.store.api_keys import ApiKey
from tidemill.store.audit import Audited, AuditPage
from tidemill.store.audit_anchor import Mac
from tidemill.store.database import Connection
from tidemill.store.executions import Created
from tidemill.store.identity import Member
from tidemill.store.service_accounts import ServiceAccount
from tidemill.store.workspaces import Workspace

_OK: Final = 200
_ERROR: Final = 400
_FORBIDDEN: Final = 403
_LOG = structlog.get_logger("tidemill.audit")


@dataclass(slots=True, kw_only=True)
class Record:
    """The row of one request, a ``Witness`` of its units.

    ``address``: where it comes from; ``counted``: what stands for that where somebody is counted.
    ``entry`` is None until somebody is authenticated. ``due``: whatever becomes of it; else only when it is refused.
    ``makes``: what is made gets its name from the unit, and is not in the path. The first unit that changes something
    takes the row along; units with ``wakes=False`` only prepare.
    """

    request: str
    parts: Parts
    address: str = ""
    counted: str = ""
    entry: AuditEntry | None = None
    due: bool = False
    makes: bool = False
    refused: bool = False
    written: bool = False

    def see(self, connection: Connection, value: object) -> None:
        if self.entry is None or not self.due or self.written:
            return
        done = replace(self.entry, outcome=AuditOutcome.SUCCESS, status=_OK)
        audit.append(connection, _with_name(done, value) if self.makes else done, key_of(self.parts.keyring))

    def committed(self) -> None:
        self.written = self.written or (self.entry is not None and self.due)

    def finds(self, value: object) -> None:
        """The request was answered with ``value``, perhaps without a unit: it was made before."""
        if self.entry is not None and self.makes and not self.written:
            self.entry = _with_name(self.entry, value)

    def ends(self, status: int) -> AuditEntry | None:
        """The row that is still to be written before an answer of ``status`` goes out."""
        refused = self.refused or status == _FORBIDDEN
        if self.entry is None or self.written or not (self.due or refused):
            return None
        failed = AuditOutcome.FAILED if status >= _ERROR else AuditOutcome.SUCCESS
        return replace(self.entry, outcome=AuditOutcome.REFUSED if refused else failed, status=status)


def write(parts: Parts, entry: AuditEntry) -> None:
    """A row in a unit of its own, of four statements: nothing was changed, or nothing but this has to be known.

    Raises OutOfSpace and Overloaded for a success: it must not be answered without its row.
    """

    def unit(connection: Connection) -> None:
        known = entry
        if entry.outcome is AuditOutcome.REFUSED and not workspaces.is_taken(connection, entry.workspace):
            # else a name that somebody tried would bring its rows along for whoever takes it later
            known = replace(entry, workspace="")
        audit.append(connection, known, key_of(parts.keyring))

    try:
        parts.database.write(unit, wakes=False)
    except (OutOfSpace, Overloaded) as error:
        if entry.outcome is AuditOutcome.SUCCESS:
            raise
        _LOG.warning("not audited", actor=entry.actor, action=entry.action, reason=error.message)


def find_page(parts: Parts, page: AuditPage) -> list[Audited]:
    """Up to ``page.limit`` rows, newest first. One statement."""
    return parts.database.read(partial(audit.find_page, page=page))


def key_of(keyring: KeyRing) -> Mac:
    """The keyed hash that chains the rows."""
    return keyring.audit_mac


def _with_name(entry: AuditEntry, value: object) -> AuditEntry:
    match value:
        case Workspace(name=name):
            # who looks into the new workspace is to see who made it
            return replace(entry, resource=f"{entry.resource}/{name}", workspace=name)
        case Job(name=name) | Created(id=name) | ApiKey(id=name) | ServiceAccount(client_id=name):
            return replace(entry, resource=f"{entry.resource}/{name}")
        case Member(account=account):
            return replace(entry, resource=f"{entry.resource}/{account.id}")
    return entry
