"""Tokens and logins on the wire (contract 2.3, 2.4). All of it is snake case, as OAuth has it."""

from typing import Annotated

from pydantic import Field

from tidemill.api.wire import Body, Json, Text
from tidemill.service.device_flow import INTERVAL_S, LASTS, Started
from tidemill.service.tokens import Tokens
from tidemill.signing import LIFETIME


class TokenBody(Body):
    """``device_code`` comes with refresh requests of official clients too, and says nothing there."""

    grant_type: Annotated[Text, Field(alias="grant_type")] = None
    client_id: Annotated[Text, Field(alias="client_id")] = None
    client_secret: Annotated[Text, Field(alias="client_secret")] = None
    refresh_token: Annotated[Text, Field(alias="refresh_token")] = None
    device_code: Annotated[Text, Field(alias="device_code")] = None
    scope: Annotated[Text, Field(alias="scope")] = None


class TokenOnlyBody(Body):
    token: Text = None
    token_type_hint: Annotated[Text, Field(alias="token_type_hint")] = None


class DeviceBody(Body):
    client_id: Annotated[Text, Field(alias="client_id")] = None
    scope: Annotated[Text, Field(alias="scope")] = None


class PasswordBody(Body):
    current: Text = None
    new: Text = None


def started_view(started: Started, origin: str) -> dict[str, Json]:
    page = f"{origin}/device"
    return {
        "device_code": started.device_code,
        "user_code": started.user_code,
        "verification_uri": page,
        "verification_uri_complete": f"{page}?user_code={started.user_code}",
        "expires_in": int(LASTS.total_seconds()),
        "interval": INTERVAL_S,
    }


def tokens_view(given: Tokens) -> dict[str, Json]:
    return {
        "access_token": given.access,
        "refresh_token": given.refresh,
        "expires_in": int(LIFETIME.total_seconds()),
        "token_type": "Bearer",
    }
