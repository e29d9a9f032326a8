"""What `tidemill login` keeps: servers, workspaces and credentials, in one file that nobody else can read."""

import json
import os
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Final

from tidemill.cli.exits import CommandError

_HEADER: Final = "# Written by `tidemill login`. It holds credentials: keep it to yourself.\n"


@dataclass(frozen=True, slots=True, kw_only=True)
class Login:
    """A workspace of a server, and one kind of credential for it: a key, client credentials, or tokens of a person.

    ``url`` is the base of the API, with its /v0. ``expires_at`` is when ``access_token`` ends, in seconds since 1970.
    """

    url: str
    workspace: str
    api_key: str = field(default="", repr=False)
    client_credentials: str = field(default="", repr=False)
    access_token: str = field(default="", repr=False)
    refresh_token: str = field(default="", repr=False)
    expires_at: int = 0

    def is_same_place(self, other: "Login") -> bool:
        return (self.url, self.workspace) == (other.url, other.workspace)


def file_path(variables: Mapping[str, str]) -> Path:
    """Where they are kept: ``$XDG_CONFIG_HOME/tidemill/cli.toml``, else below ``~/.config``."""
    home = Path(variables.get("HOME", "~")).expanduser()
    return Path(variables.get("XDG_CONFIG_HOME") or home / ".config") / "tidemill" / "cli.toml"


def read(path: Path) -> Sequence[Login]:
    """All that are kept, the one in use first; none where there is no file. Raises CommandError for a broken one."""
    try:
        document = tomllib.loads(path.read_text())
        known = {each.name for each in fields(Login)}
        return [Login(**{name: value for name, value in row.items() if name in known}) for row in document["login"]]
    except FileNotFoundError:
        return []
    except (OSError, tomllib.TOMLDecodeError, UnicodeDecodeError, KeyError, TypeError, AttributeError) as error:
        raise CommandError(
            f"{path} cannot be read: {error}", advice=("delete it and log in again: tidemill login --url URL",)
        ) from error


def write(path: Path, logins: Sequence[Login]) -> None:
    """Keep these, and no others; whole or not at all. The file has mode 0600."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.{os.getpid()}")
    descriptor = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    with os.fdopen(descriptor, "w") as file:
        file.write(_HEADER + "".join(map(_table, logins)) if logins else f"{_HEADER}login = []\n")
    partial.replace(path)


def used(logins: Sequence[Login], login: Login) -> Sequence[Login]:
    """``login`` first, in place of an older one for the same place; the others behind it in their order."""
    return [login, *(each for each in logins if not each.is_same_place(login))]


def _table(login: Login) -> str:
    # JSON's texts and numbers are TOML's too
    lines = [
        f"{each.name} = {json.dumps(value)}\n"
        for each in fields(login)
        if (value := getattr(login, each.name)) != each.default
    ]
    return f"\n[[login]]\n{''.join(lines)}"
