"""`tidemill login [WORKSPACE]`: prove who you are to a server, and keep that for later commands."""

import os
import time
from dataclasses import replace
from typing import Annotated

from cyclopts import Parameter

from tidemill.cli import logins, output, tokens
from tidemill.cli.connection import Found, api_url, data_directory, environment, read_admin_url, told
from tidemill.cli.exits import CommandError, usage
from tidemill.cli.logins import Login
from tidemill.sdk import Client, Endpoint


def command(
    workspace: str = "",
    *,
    url: str = "",
    api_key: Annotated[str, Parameter(show_default=False)] = "",
    client_credentials: Annotated[str, Parameter(show_default=False)] = "",
    device: Annotated[bool, Parameter(negative="", show_default=False)] = False,
) -> None:
    """Log in to a server. Without a credential somebody signs in and approves it in a browser.

    Parameters
    ----------
    workspace
        The workspace to work in; without one the first that the login reaches.
    url
        The server, e.g. http://HOST:8700 (else BL_API_URL, else the server of this machine).
    api_key
        Log in with this API key (else BL_API_KEY). Other users of this machine can read flags: prefer the variable.
    client_credentials
        Log in as a service account with ID:SECRET (else BL_CLIENT_CREDENTIALS).
    device
        Log in in a browser, whatever the variables hold.
    """
    variables = environment()
    address = api_url(url or variables.get("BL_API_URL", "")) or read_admin_url(
        data_directory(None, variables, is_root=os.geteuid() == 0)
    )
    if not address:
        raise usage("which server? give its address: tidemill login --url http://HOST:8700")
    key = "" if device else api_key or ("" if client_credentials else variables.get("BL_API_KEY", ""))
    credentials = "" if device or key else client_credentials or variables.get("BL_CLIENT_CREDENTIALS", "")
    login = Login(url=address, workspace=workspace, api_key=key, client_credentials=credentials)
    with told(Found(endpoint=Endpoint(api_url=address, workspace=workspace), key_source="the login")):
        if not key:
            login = _with_token(login)
        login = _in_workspace(login)
    file = logins.file_path(variables)
    logins.write(file, logins.used(logins.read(file), login))
    output.stdout().print(f"logged in to {login.url}, workspace {login.workspace}", soft_wrap=True)


def _with_token(login: Login) -> Login:
    with Client(Endpoint(api_url=login.url)) as client:
        if login.client_credentials:
            return tokens.with_token(login, client, _now_s())
        found = client.start_device_login()
        page = found.get("verification_uri_complete") or found["verification_uri"]
        said = output.stderr()
        said.print(f"open {page}", soft_wrap=True)
        said.print(f"and approve the code {found['user_code']}", soft_wrap=True)
        return tokens.kept(login, tokens.approved(client, found, time.sleep), _now_s())


def _in_workspace(login: Login) -> Login:
    """With the workspace that it is to work in. Raises CommandError where it reaches none, ApiError where not that."""
    with Client(Endpoint(api_url=login.url, api_key=login.api_key or login.access_token)) as client:
        if login.workspace:
            client.get_workspace(login.workspace)
            return login
        reached = [each["name"] for each in client.list_workspaces()]
    if not reached:
        raise CommandError("the login reaches no workspace")
    return replace(login, workspace=reached[0])


def _now_s() -> int:
    return int(output.wall_clock().timestamp())
