"""Tokens: had for client credentials, renewed, or given once a person has approved a code (contract 2.3, 2.4)."""

import base64
import binascii
from collections.abc import Callable
from dataclasses import replace
from typing import Final

from tidemill.cli.exits import CommandError
from tidemill.cli.logins import Login
from tidemill.sdk import ApiError, Client, DeviceLogin, Token

_MARGIN_S: Final = 600
"""A token that ends sooner is renewed: a command may go on for a while with the one it has."""
_PENDING: Final = "authorization_pending"


def with_token(login: Login, client: Client, now_s: int) -> Login:
    """``login`` with an access token that is good for a while. Raises CommandError, and what the client raises."""
    if login.access_token and login.expires_at - now_s > _MARGIN_S:
        return login
    if login.client_credentials:
        token = client.token({"grant_type": "client_credentials"}, basic=basic(login.client_credentials))
    elif login.refresh_token:
        token = _refreshed(login, client)
    else:
        raise CommandError(
            "this login has no credential", advice=(f"tidemill login {login.workspace} --url {login.url}",)
        )
    return kept(login, token, now_s)


def kept(login: Login, token: Token, now_s: int) -> Login:
    """``login`` with this token; an answer without a new refresh token leaves the old one (contract 2.3)."""
    return replace(
        login,
        access_token=token["access_token"],
        refresh_token=token.get("refresh_token") or login.refresh_token,
        expires_at=now_s + token["expires_in"],
    )


def basic(credentials: str) -> str:
    """Client credentials as they follow ``Basic``: given as ID:SECRET or already in base64. Raises CommandError."""
    try:
        decoded = base64.b64decode(credentials, validate=True).decode()
        if ":" in decoded:
            return credentials
    except (binascii.Error, UnicodeDecodeError):
        pass  # then it is the plain form, or nothing
    if ":" not in credentials:
        raise CommandError("client credentials are ID:SECRET, or the base64 of that")
    return base64.b64encode(credentials.encode()).decode()


def approved(client: Client, device: DeviceLogin, sleep: Callable[[float], None]) -> Token:
    """Wait until somebody has approved the login. Raises CommandError when it was denied or nobody came in time."""
    interval = max(1, device["interval"])
    form = {
        "grant_type": "urn:ietf:params:oauth:grant-type:device_code",
        "client_id": "blaxel",
        "device_code": device["device_code"],
    }
    for _ in range(max(1, device["expires_in"] // interval)):
        sleep(interval)
        try:
            token = client.token_if_ready(form)
        except ApiError as error:
            if error.error == _PENDING:
                continue
            raise CommandError(f"the login was not approved: {error}") from error
        if token is not None:
            return token
    raise CommandError("nobody approved the login in time")


def _refreshed(login: Login, client: Client) -> Token:
    form = {"grant_type": "refresh_token", "refresh_token": login.refresh_token, "client_id": "blaxel"}
    try:
        return client.token(form)
    except ApiError as error:
        again = f"tidemill login {login.workspace} --url {login.url}"
        raise CommandError(f"the login has ended: {error}", advice=(again,)) from error
