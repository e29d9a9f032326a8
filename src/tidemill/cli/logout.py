"""`tidemill logout [WORKSPACE]`: end a login, here and on the server."""

from tidemill.cli import logins, output
from tidemill.cli.connection import environment
from tidemill.cli.exits import usage
from tidemill.cli.logins import Login
from tidemill.sdk import Client, Endpoint, SdkError


def command(workspace: str = "") -> None:
    """Forget a login; tokens of it are ended on the server as well, if that can be reached.

    Parameters
    ----------
    workspace
        Which one; without one the login in use.
    """
    file = logins.file_path(environment())
    kept = logins.read(file)
    gone = next((each for each in kept if workspace in {"", each.workspace}), None)
    if gone is None:
        raise usage(f"there is no login for workspace {workspace}" if workspace else "there is no login")
    logins.write(file, [each for each in kept if each is not gone])
    if gone.refresh_token or gone.access_token:
        _revoke(gone)
    output.stdout().print(f"logged out of {gone.url}, workspace {gone.workspace}", soft_wrap=True)


def _revoke(login: Login) -> None:
    try:
        with Client(Endpoint(api_url=login.url)) as client:
            client.revoke(login.refresh_token or login.access_token)
    except SdkError as error:
        output.stderr().print(f"the server was not told, so its token lives on until it ends: {error}", soft_wrap=True)
