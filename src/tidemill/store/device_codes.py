"""Programs that wait for a person's yes (RFC 8628)."""

from dataclasses import dataclass
from datetime import datetime
from typing import Final

from sqlalchemy import Connection, and_, bindparam, delete, func, insert, select, update

from tidemill.model.principal import Role
from tidemill.store import schema

_CODE: Final = schema.device_code.c
_MEMBER: Final = schema.membership.c
_POLLED: Final = (
    select(*schema.device_code.c, _MEMBER.role)
    .outerjoin_from(
        schema.device_code,
        schema.membership,
        and_(_MEMBER.account == _CODE.account, _MEMBER.workspace == _CODE.workspace),
    )
    .where(_CODE.digest == bindparam("digest"))
)


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceCode:
    """``account``: who decided, "" while nobody has; ``workspace``: what they said yes for, "" for a no."""

    digest: str
    user_digest: str
    client: str
    scope: str
    created_at: datetime
    expires_at: datetime
    account: str = ""
    workspace: str = ""


def _code(row: schema.AnyRow) -> DeviceCode:
    return DeviceCode(**{column.name: getattr(row, column.name) for column in schema.device_code.c})


def waiting(connection: Connection) -> int:
    """How many there are, whatever became of them. One statement."""
    return int(connection.scalar(select(func.count()).select_from(schema.device_code)) or 0)


def add(connection: Connection, new: DeviceCode) -> bool:
    """False where the code that people type is another's. Two statements."""
    if by_user_code(connection, new.user_digest) is not None:
        return False
    values = {column.name: getattr(new, column.name) for column in schema.device_code.c}
    connection.execute(insert(schema.device_code).values(values))
    return True


def by_user_code(connection: Connection, user_digest: str) -> DeviceCode | None:
    """One statement, by a unique index."""
    row = connection.execute(select(*schema.device_code.c).where(_CODE.user_digest == user_digest)).one_or_none()
    return None if row is None else _code(row)


def polled(connection: Connection, digest: str) -> tuple[DeviceCode, Role | None] | None:
    """It, and what who said yes is in that workspace now. One statement, by two primary keys."""
    row = connection.execute(_POLLED, {"digest": digest}).one_or_none()
    return None if row is None else (_code(row), None if row.role is None else Role(row.role))


def decide(connection: Connection, user_digest: str, *, account: str, workspace: str, now: datetime) -> bool:
    """Write down a yes, or with "" a no; False when the code is gone, over or decided. One statement."""
    changed = connection.execute(
        update(schema.device_code)
        .where(_CODE.user_digest == user_digest, _CODE.account == "", _CODE.expires_at > now)
        .values(account=account, workspace=workspace)
    )
    return changed.rowcount == 1


def spend(connection: Connection, digest: str) -> bool:
    """Forget it, for its tokens are being given; False when somebody else was first. One statement."""
    return connection.execute(delete(schema.device_code).where(_CODE.digest == digest)).rowcount == 1
