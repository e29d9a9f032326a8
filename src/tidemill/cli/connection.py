"""Which server a command talks to, and as whom: flags, BL_* variables, what `tidemill login` kept, then admin.env.

Each value is looked up by itself, with one exception: a credential that was kept, or is in admin.env, goes to the
server that it was kept for only. A data directory that is named counts before logins. Nothing found is an error that
says what to do; there is no server to fall back to.
"""

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated
from urllib.parse import urlsplit

from cyclopts import Parameter

from tidemill.cli import logins, official, tokens
from tidemill.cli.exits import CommandError, usage
from tidemill.cli.logins import Login
from tidemill.cli.output import wall_clock
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
    """An endpoint, and where its key came from, for the message when the server refuses it.

    ``login`` is one that has no key but tokens, which may have to be renewed first.
    """

    endpoint: Endpoint
    key_source: str
    login: Login | None = None


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
    """The endpoint that flags, variables, logins and admin.env lead to. Raises a usage error when they lead nowhere."""
    admin_file = data_directory(flags.data_dir, variables, is_root=is_root) / "admin.env"
    admin = _read_admin(admin_file)
    login_file = logins.file_path(variables)
    kept = logins.read(login_file)
    directory_named = flags.data_dir is not None or "TIDEMILL_DATA_DIR" in variables
    named_url = api_url(flags.url or variables.get("BL_API_URL", ""))
    admin_url = api_url(admin.get("BL_API_URL", ""))
    url = named_url or (admin_url if directory_named and admin_url else kept[0].url if kept else admin_url)
    if not url:
        raise usage(
            f"no server is known: --url and BL_API_URL are not set, there is no login and no {admin_file}",
            "start one on this machine:  tidemill server",
            "or log in to one:           tidemill login --url http://HOST:8700",
            "or name one:                export BL_API_URL=http://HOST:8700/v0 BL_API_KEY=KEY",
        )
    admin = admin if _same_server(url, admin_url) else {}
    workspace = flags.workspace or variables.get("BL_WORKSPACE", "")
    login = _login(kept, url, workspace)
    if login is None and not admin:
        login, login_file = official.login(variables, url, workspace), official.file_path(variables)
    workspace = workspace or (login.workspace if login else admin.get("BL_WORKSPACE", ""))
    endpoint = Endpoint(api_url=url, workspace=workspace)
    keys = (
        (flags.api_key, "--api-key"),
        (variables.get("BL_API_KEY", ""), "BL_API_KEY"),
        (login.api_key if login else "", str(login_file)),
        (admin.get("BL_API_KEY", "") if login is None else "", str(admin_file)),
    )
    key, source = next((pair for pair in keys if pair[0]), ("", ""))
    if key:
        return Found(endpoint=replace(endpoint, api_key=key), key_source=source)
    credentials = variables.get("BL_CLIENT_CREDENTIALS", "")
    if credentials:
        own = Login(url=url, workspace=workspace, client_credentials=credentials)
        return Found(endpoint=endpoint, key_source="BL_CLIENT_CREDENTIALS", login=own)
    if login is not None:
        return Found(endpoint=endpoint, key_source=str(login_file), login=login)
    raise usage(
        f"no credential for {url}", "log in (tidemill login), set BL_API_KEY, or give --data-dir of a server here"
    )


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
    with told(found):
        key = found.endpoint.api_key or fresh_token(found)
        with Client(replace(found.endpoint, api_key=key)) as client:
            yield client


@contextmanager
def told(found: Found) -> Iterator[None]:
    """What goes wrong with a server becomes one clear line."""
    try:
        yield
    except ApiError as error:
        raise CommandError(str(error), advice=_advice(error, found)) from error
    except ConnectionFailedError as error:
        message = f"no answer from {found.endpoint.api_url}: {error.reason}"
        raise CommandError(message, advice=("is it running? `tidemill server` starts one",)) from error
    except SdkError as error:
        raise CommandError(str(error), advice=("is a Tidemill server at that address?",)) from error


def fresh_token(found: Found) -> str:
    """The access token of a login, renewed and kept again when it ends soon. Raises CommandError and SdkError."""
    login = found.login
    assert login is not None
    with Client(Endpoint(api_url=login.url)) as client:
        renewed = tokens.with_token(login, client, int(wall_clock().timestamp()))
    if renewed != login:
        file = logins.file_path(environment())
        kept = logins.read(file)
        # what came from a variable is not for us to keep
        if any(each.is_same_place(login) and each.refresh_token == login.refresh_token for each in kept):
            logins.write(file, [renewed if each.is_same_place(login) else each for each in kept])
    return renewed.access_token


def _login(kept: Sequence[Login], url: str, workspace: str) -> Login | None:
    """The login for this server and workspace; without a workspace the one that was used last."""
    return next((each for each in kept if each.url == url and workspace in {"", each.workspace}), None)


def _advice(error: ApiError, found: Found) -> tuple[str, ...]:
    if error.status in {401, 403}:
        workspace = found.endpoint.workspace or "not named"
        return (f"the key came from {found.key_source}, workspace: {workspace}, server: {found.endpoint.api_url}",)
    if error.status >= 500 and not error.error_code:
        return (f"{error.request} was answered with {error.status}",)
    return ()


def read_admin_url(directory: Path) -> str:
    """The address of this machine's server, as its admin.env says it; empty when there is none."""
    return api_url(_read_admin(directory / "admin.env").get("BL_API_URL", ""))


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
