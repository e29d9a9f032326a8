"""Which revision a request wants back."""

from sqlalchemy import Connection, select

from tidemill.model.errors import Invalid
from tidemill.model.job import KEPT_REVISIONS
from tidemill.store import schema
from tidemill.store.schema import AnyRow

_REVISION = schema.revision.c


def target(connection: Connection, row: AnyRow, wanted: str) -> str | None:
    """The id of the kept revision that is to be active instead of the one of the job ``row``; None for no such wish.

    The active one, the staged one and an empty text are none. Two statements at most, by primary key. Raises Invalid.
    """
    if wanted in {"", row.active_revision, row.staged_revision}:
        return None
    kept = (_REVISION.job == row.key, _REVISION.image_digest != "")
    if connection.scalar(select(_REVISION.id).where(*kept, _REVISION.id == wanted)) is not None:
        return wanted
    newest = connection.scalars(
        select(_REVISION.id).where(*kept).order_by(_REVISION.number.desc()).limit(KEPT_REVISIONS)
    ).all()
    raise Invalid(
        f"spec.revision.active is {wanted[:64]!r}, which the job does not keep; "
        f"the newest that it keeps are {', '.join(newest) or 'none'}"
    )
