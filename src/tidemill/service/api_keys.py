"""API keys of users and of service accounts: shown once, kept as keyed digests."""

import uuid
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from tidemill import secrets
from tidemill.model.errors import Forbidden, NotFound
from tidemill.model.lifetime import lifetime
from tidemill.model.principal import Principal, PrincipalKind
from tidemill.model.quoted import quoted
from tidemill.service import service_accounts
from tidemill.service.parts import Parts
from tidemill.store import api_keys, identity
from tidemill.store.api_keys import ApiKey
from tidemill.store.database import Connection

PREFIX_SHOWN: Final = 8


@dataclass(frozen=True, slots=True)
class Owner:
    """Whose keys are meant."""

    kind: PrincipalKind
    id: str


def oneself(principal: Principal) -> Owner:
    """The caller, who must be a user. Raises Forbidden."""
    if principal.kind is not PrincipalKind.USER:
        raise Forbidden("keys of a service account are made by an admin, under /v0/service_accounts")
    return Owner(PrincipalKind.USER, principal.id)


def service_account(client_id: str) -> Owner:
    return Owner(PrincipalKind.SERVICE_ACCOUNT, client_id)


def list_all(parts: Parts, principal: Principal, owner: Owner) -> list[ApiKey]:
    """All of them, oldest first. Two statements. Raises NotFound."""

    def read(connection: Connection) -> list[ApiKey]:
        _check(connection, principal, owner)
        return api_keys.of_owner(connection, owner.kind, owner.id)

    return parts.database.read(read)


def create(
    parts: Parts, principal: Principal, owner: Owner, name: str, expires_in: str, *, now: datetime
) -> tuple[ApiKey, str]:
    """A new key and its text, which nobody can be told again. One unit.

    Raises NotFound, Invalid, and Forbidden where the key would reach more than what asks for it.
    """
    until = lifetime(expires_in, "expires_in")
    text = secrets.new_api_key()
    new = ApiKey(
        id=f"key-{uuid.uuid4()}",
        owner_kind=owner.kind,
        owner=owner.id,
        name=name,
        prefix=text[:PREFIX_SHOWN],
        created_at=now,
        created_by=principal.id,
        expires_at=None if until is None else now + until,
        expires_in=expires_in,
    )
    digest = parts.keyring.api_key_digest(text)

    def unit(connection: Connection) -> ApiKey:
        _check(connection, principal, owner)
        _check_reach(connection, principal, owner)
        api_keys.add(connection, new, digest)
        return new

    return parts.database.write(unit), text


def delete(parts: Parts, principal: Principal, owner: Owner, key_id: str) -> None:
    """End one key at once. One unit. Raises NotFound."""

    def unit(connection: Connection) -> None:
        _check(connection, principal, owner)
        if not api_keys.remove(connection, owner.kind, owner.id, key_id):
            raise NotFound(f"no API key {quoted(key_id)}")

    parts.database.write(unit)


def _check(connection: Connection, principal: Principal, owner: Owner) -> None:
    """Whether the caller may deal with this owner's keys. At most one statement. Raises NotFound."""
    if owner.kind is PrincipalKind.SERVICE_ACCOUNT:
        service_accounts.of_workspace(connection, principal.workspace, owner.id)


def _check_reach(connection: Connection, principal: Principal, owner: Owner) -> None:
    """Whether the new key reaches no more than the caller's credential. At most one statement. Raises Forbidden."""
    if principal.is_narrowed:
        raise Forbidden("a token limited in scope makes no keys: they would not be limited")
    elsewhere = (
        identity.workspaces_of(connection, owner.id).keys() - {principal.workspace}
        if principal.bound and owner.kind is PrincipalKind.USER
        else ()
    )
    if elsewhere:
        raise Forbidden("this token is for one workspace, and a key of yours would reach others: use one to make it")
