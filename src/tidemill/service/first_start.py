"""The first workspace, its admin's API key, and the file by which programs of this machine find the server."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Final

from tidemill.secrets import KeyRing, new_api_key, write_private
from tidemill.service import identity
from tidemill.store.database import Database

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

    Two units of two statements.
    """
    known = "" if given_key else read_file(data_dir).get("BL_API_KEY", "")
    api_key = given_key or known or new_api_key()
    identity.ensure_admin(database, keyring, workspace, api_key, now=now)
    return Admin(workspace=workspace, api_key=api_key, generated=not given_key and not known)


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
