"""The old end of the audit goes after its time, a day at once (docs/decisions/0102)."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import partial
from typing import Final

import structlog

from tidemill.model.audit import SERVER, AuditEntry, AuditOutcome
from tidemill.store import audit
from tidemill.store.audit import Cut
from tidemill.store.audit_anchor import Mac
from tidemill.store.database import Database

_LOG: Final = structlog.get_logger("tidemill.scheduler")


@dataclass(slots=True, kw_only=True)
class AuditEnd:
    """Rows older than ``days`` are cut, to the whole day; ``workspace`` has the rows that tell of it.

    A cut adds a row: were each sweep to cut what has just become too old, the audit would grow by its own cuts.
    """

    database: Database
    mac: Mac = field(repr=False)
    workspace: str
    days: float
    rows: int
    """How many go in one unit."""
    _told: str = ""

    def units(self, now: datetime) -> Iterator[None]:
        """Cut all that is due, and yield after each unit. One statement where nothing is."""
        before = (now - timedelta(days=self.days)).replace(hour=0, minute=0, second=0, microsecond=0)
        while self.database.read(partial(audit.is_old, before=before)):
            # read outside of the unit: a thousand macs take the writer's time else; nobody but us cuts
            old = self.database.read(partial(audit.find_old_end, before=before, mac=self.mac, limit=self.rows))
            if not isinstance(old, Cut):
                self._tell(old or "")
                return
            cut = partial(audit.cut, old=old, entry=self._entry(old, now), mac=self.mac)
            self.database.write(cut, urgent=True, wakes=False)
            yield

    def _tell(self, reason: str) -> None:
        if reason != self._told:
            _LOG.error("the audit is not cut, because it is not whole", reason=reason)
            self._told = reason

    def _entry(self, old: Cut, now: datetime) -> AuditEntry:
        return AuditEntry(
            at=now,
            workspace=self.workspace,
            actor="",
            actor_kind=SERVER,
            credential="",
            action="audit.cut",
            resource=f"audit/{old.first}-{old.last.number}",
            outcome=AuditOutcome.SUCCESS,
            status=200,
            address="",
            request="",
        )
