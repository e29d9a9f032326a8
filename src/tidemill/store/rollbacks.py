"""Which revision a request wants back."""

from sqlalchemy import Connection

from tidemill.model.errors import Invalid
from tidemill.store import canaries
from tidemill.store.schema import AnyRow


def target(connection: Connection, row: AnyRow, wanted: str) -> str | None:
    """The id of the kept revision that is to be active instead of the one of the job ``row``; None for no such wish.

    The active one, the staged one and an empty text are none. Two statements at most, by primary key. Raises Invalid.
    """
    if wanted in {"", row.active_revision, row.staged_revision}:
        return None
    if canaries.is_kept(connection, row.key, wanted):
        return wanted
    raise Invalid(
        f"spec.revision.active is {wanted[:64]!r}, which the job does not keep; "
        f"the newest that it keeps are {canaries.kept_ids(connection, row.key)}"
    )
