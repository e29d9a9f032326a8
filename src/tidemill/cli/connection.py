"""Which server a command talks to, and as whom: flags, then BL_* variables, then the admin.env of the data directory.

Each value is looked up by itself, with one exception: the key in admin.env goes to the server of that admin.env only.
Nothing found is an error that says what to do; there is no server to fall back to.
"""

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated
from urllib.parse import urlsplit

from cyclopts import Parameter

from tidemill.cli.exits import CommandError, usage
from tidemill.sdk import ApiError, Client, ConnectionFailedError, Endpoint, SdkError


@Parameter(name="*", group="Server", show_default=False)
@dataclass(frozen=True, slots=True, kw_only=True)
class Connection:
    """The flags that every client command has."""

    url: str = ""
    """The server, e.g. http://127.0.0.1:8700 (else BL_API_URL)."""
    workspace: Annotated[str, Parameter(alias="-w")] = ""
    """The workspace to act in (else BL_WORKSPACE, else the key's only one)."""
    api_key: str = ""
    """The API key (else BL_API_KEY). Other users of this machine can read flags: prefer the variable."""
    data_dir: Path | None = None
    """Where a server on this machine keeps its data (else TIDEMILL_DATA_DIR); its admin.env says how to reach it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """An endpoint, and where its key came from, for the message when the server refuses it."""

    endpoint: Endpoint
    key_source: str


def environment() -> Mapping[str, str]:
    """The variables of this process: the one place where a client command reads them."""
    return os.environ  # noqa: TID251 - settings.py belongs to the server; the client stands on the base set alone


def data_directory(flag: Path | None, variables: Mapping[str, str], *, is_root: bool) -> Path:
    """Where a server on this machine keeps its data: flag, TIDEMILL_DATA_DIR, else the design's default."""
    if flag is not None:
        return flag
    if named := variables.get("TIDEMILL_DATA_DIR"):
        return Path(named)
    if is_root:
        return Path("/var/lib/tidemill")
    home = variables.get("XDG_DATA_HOME") or str(Path(variables.get("HOME", "~")).expanduser() / ".local/share")
    return Path(home) / "tidemill"


def parse_variables(text: str) -> dict[str, str]:
    """The `NAME=VALUE` lines of an env file; comments, `export` and quotes around a value are understood."""
    variables = {}
    for raw in text.splitlines():
        line = raw.strip().removeprefix("export ").strip()
        name, found, value = line.partition("=")
        if not found or line.startswith("#"):
            continue
        value = value.strip()
        if len(value) >= 2 and value[0] == value[-1] and value[0] in "\"'":
            value = value[1:-1]
        variables[name.strip()] = value
    return variables


def find_server(flags: Connection, variables: Mapping[str, str], *, is_root: bool) -> Found:
    """The endpoint that flags, variables and admin.env lead to. Raises a usage error when they lead nowhere."""
    directory = data_directory(flags.data_dir, variables, is_root=is_root)
    admin_file = directory / "admin.env"
    admin = _read_admin(admin_file)
    named_url = flags.url or variables.get("BL_API_URL", "")
    admin_url = api_url(admin.get("BL_API_URL", ""))
    url = api_url(named_url) or admin_url
    if not url:
        raise usage(
            f"no server is known: --url and BL_API_URL are not set, and there is no {admin_file}",
            "start one on this machine:  tidemill server",
            "or name one:                export BL_API_URL=http://HOST:8700/v0 BL_API_KEY=KEY",
        )
    admin = admin if _same_server(url, admin_url) else {}
    keys = (
        (flags.api_key, "--api-key"),
        (variables.get("BL_API_KEY", ""), "BL_API_KEY"),
        (admin.get("BL_API_KEY", ""), str(admin_file)),
    )
    key, source = next((pair for pair in keys if pair[0]), ("", ""))
    if not key:
        raise usage(f"no API key for {url}", "set BL_API_KEY, or give --data-dir of a server on this machine")
    workspace = flags.workspace or variables.get("BL_WORKSPACE") or admin.get("BL_WORKSPACE", "")
    return Found(endpoint=Endpoint(api_url=url, api_key=key, workspace=workspace), key_source=source)


def api_url(text: str) -> str:
    """A server's address as people write it, as the base of its API: `/v0` is added where no path was given.

    Empty for an empty text. Raises a usage error for what is no http(s) URL.
    """
    if not text:
        return ""
    parts = urlsplit(text)
    if parts.scheme not in {"http", "https"} or not parts.hostname:
        raise usage(f"not the address of a server: {text}", "it looks like http://HOST:8700")
    path = parts.path.rstrip("/")
    return f"{parts.scheme}://{parts.netloc}{path or '/v0'}"


@contextmanager
def connected(flags: Connection) -> Iterator[Client]:
    """A client of the server that is found; what goes wrong with it becomes one clear line."""
    found = find_server(flags, environment(), is_root=os.geteuid() == 0)
    try:
        with Client(found.endpoint) as client:
            yield client
    except ApiError as error:
        raise CommandError(str(error), advice=_advice(error, found)) from error
    except ConnectionFailedError as error:
        message = f"no answer from {found.endpoint.api_url}: {error.reason}"
        raise CommandError(message, advice=("is it running? `tidemill server` starts one",)) from error
    except SdkError as error:
        raise CommandError(str(error), advice=("is a Tidemill server at that address?",)) from error


def _advice(error: ApiError, found: Found) -> tuple[str, ...]:
    if error.status in {401, 403}:
        workspace = found.endpoint.workspace or "not named"
        return (f"the key came from {found.key_source}, workspace: {workspace}, server: {found.endpoint.api_url}",)
    if error.status >= 500 and not error.error_code:
        return (f"{error.request} was answered with {error.status}",)
    return ()


def _read_admin(file: Path) -> dict[str, str]:
    try:
        return parse_variables(file.read_text())
    except FileNotFoundError:
        return {}
    except PermissionError:
        # another user's server: what flags and variables say may still be enough
        return {}


def _same_server(url: str, other: str) -> bool:
    if not other:
        return False
    one, two = urlsplit(url), urlsplit(other)
    return (one.scheme, one.hostname, one.port) == (two.scheme, two.hostname, two.port)
