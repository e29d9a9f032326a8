"""What can be said of a data directory, whether a server runs on it or not: its ledger, its audit, its sealed values.

All of it only reads, in one snapshot each.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import TypeVar

from tidemill.secrets import FILE_NAME, KeyRing, KeyRingError
from tidemill.service import sealed
from tidemill.settings import Settings
from tidemill.store import audit, check
from tidemill.store.database import DATABASE_NAME, Connection, read_only

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Report:
    """Sentences for whoever asked; not ``ok``: something is wrong, or could not be looked at."""

    ok: bool
    says: list[str]


def ledger(settings: Settings) -> Report:
    """Which invariants of the ledger do not hold."""

    def inspect() -> Report:
        broken = _read(settings, check.violations)
        if not broken:
            return Report(ok=True, says=["no violation: every invariant of the ledger holds"])
        return Report(ok=False, says=[*broken, _count(len(broken), "violation")])

    return _report(settings, "ledger", inspect)


def audit_chain(settings: Settings) -> Report:
    """Whether a row of the audit was removed, changed, moved or put in."""

    def inspect(ring: KeyRing) -> Report:
        checked = _read(settings, partial(audit.check, mac=ring.audit_mac))
        if checked.violations:
            return Report(ok=False, says=list(checked.violations))
        # who keeps this line elsewhere can tell a copy of an older day from the database of today
        rows = _count(checked.rows, "row")
        says = [f"the audit is whole: {rows}, the newest {checked.newest or 'none'}"]
        if checked.cut is not None:
            says.append(f"it begins with row {checked.cut.number + 1}: older ones, up to {checked.cut.at}, were cut")
        return Report(ok=True, says=says)

    return _report(settings, "audit", lambda: _with_key_ring(settings, inspect))


def sealed_values(settings: Settings) -> Report:
    """Which values that are sealed do not open with the key ring."""

    def inspect(ring: KeyRing) -> Report:
        # one snapshot: what a rotation seals anew meanwhile is as it was before
        found = _read(settings, lambda connection: sealed.look(lambda work: work(connection), ring))
        if not found.unopened:
            return Report(ok=True, says=[f"every sealed value opens: {found.envelopes}"])
        says = [f"{each.table} {each.id} does not open with key {each.key or 'none'}" for each in found.first]
        return Report(ok=False, says=[*says, f"{found.unopened} of {found.envelopes} sealed values do not open"])

    return _report(settings, "sealed value", lambda: _with_key_ring(settings, inspect))


def _report(settings: Settings, what: str, inspect: Callable[[], Report]) -> Report:
    if not (settings.data_dir / DATABASE_NAME).is_file():
        return Report(ok=False, says=[f"there is no {what} in {settings.data_dir}"])
    return inspect()


def _with_key_ring(settings: Settings, inspect: Callable[[KeyRing], Report]) -> Report:
    given = settings.key_ring
    try:
        ring = KeyRing.parse(
            given.get_secret_value() if given is not None else (settings.data_dir / FILE_NAME).read_text()
        )
    except (KeyRingError, OSError) as error:
        return Report(ok=False, says=[f"nothing can be said without the key ring: {error}"])
    return inspect(ring)


def _read(settings: Settings, work: Callable[[Connection], T]) -> T:
    return read_only(settings.data_dir / DATABASE_NAME, work)


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"
