"""The first workspace, its admin's API key, and the file by which programs of this machine find the server."""

import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Final

from tidemill.model.principal import PrincipalKind, Role
from tidemill.secrets import KeyRing, new_api_key, write_private
from tidemill.service import users
from tidemill.service.api_keys import PREFIX_SHOWN
from tidemill.store import api_keys, identity, workspaces
from tidemill.store.api_keys import ApiKey
from tidemill.store.database import Connection, Database
from tidemill.store.identity import Account
from tidemill.store.workspaces import Workspace

FILE_NAME: Final = "admin.env"


@dataclass(frozen=True, slots=True, kw_only=True)
class Admin:
    """Who may do everything in the first workspace. ``generated``: nobody but us has seen the key yet."""

    workspace: str
    api_key: str = field(repr=False)
    generated: bool


def ensure_admin(
    database: Database, keyring: KeyRing, data_dir: Path, *, workspace: str, given_key: str, now: datetime
) -> Admin:
    """Make the workspace and its admin's key unless they are there: the key given, else the one of admin.env, else new.

    One unit of at most ten statements.
    """
    known = "" if given_key else read_file(data_dir).get("BL_API_KEY", "")
    api_key = given_key or known or new_api_key()
    ensure_key(database, keyring, workspace, api_key, now=now)
    return Admin(workspace=workspace, api_key=api_key, generated=not given_key and not known)


def ensure_key(database: Database, keyring: KeyRing, workspace: str, api_key: str, *, now: datetime) -> None:
    """Make the workspace, its first admin's account and this key of theirs, as far as they are not there.

    A key that was deleted is there again after this: who starts the server and names the key wants it. One unit.
    """
    digest = keyring.api_key_digest(api_key)

    def unit(connection: Connection) -> None:
        workspaces.create(connection, Workspace(name=workspace, display_name=workspace, created_at=now))
        holder = api_keys.holder(connection, digest, workspace)
        if holder is not None and holder.reaches:
            return
        email = f"admin@{workspace}"
        account = identity.find_account(connection, email)
        if account is None:
            account = Account(id=users.new_id(), email=email, created_at=now)
            identity.add_account(connection, account)
        identity.set_role(connection, account.id, workspace, Role.ADMIN, now=now)
        key = ApiKey(
            id=f"key-{uuid.uuid4()}",
            owner_kind=PrincipalKind.USER,
            owner=account.id,
            name="admin",
            prefix=api_key[:PREFIX_SHOWN],
            created_at=now,
            created_by=account.id,
        )
        api_keys.add(connection, key, digest)

    database.write(unit)


def write_file(data_dir: Path, admin: Admin, origin: str) -> None:
    """Rewrite ``admin.env``, mode 0600: what the command line of this machine needs. It is read by shells too."""
    values = {
        "BL_API_URL": f"{origin}/v0",
        "BL_RUN_URL": origin,
        "BL_WORKSPACE": admin.workspace,
        "BL_API_KEY": admin.api_key,
    }
    write_private(data_dir / FILE_NAME, "".join(f"{name}={value}\n" for name, value in values.items()))


def read_file(data_dir: Path) -> Mapping[str, str]:
    """What ``admin.env`` says; empty when there is none."""
    try:
        lines = (data_dir / FILE_NAME).read_text().splitlines()
    except FileNotFoundError:
        return {}
    return dict(line.split("=", 1) for line in lines if "=" in line)
