"""Tokens on the wire (contract 2.3). All of it is snake case, as OAuth has it."""

from typing import Annotated

from pydantic import Field

from tidemill.api.wire import Body, Json, Text
from tidemill.service.tokens import Tokens
from tidemill.signing import LIFETIME


class TokenBody(Body):
    """``device_code`` comes with refresh requests of official clients, and says nothing there."""

    grant_type: Annotated[Text, Field(alias="grant_type")] = None
    client_id: Annotated[Text, Field(alias="client_id")] = None
    client_secret: Annotated[Text, Field(alias="client_secret")] = None
    refresh_token: Annotated[Text, Field(alias="refresh_token")] = None
    device_code: Annotated[Text, Field(alias="device_code")] = None
    scope: Annotated[Text, Field(alias="scope")] = None


class TokenOnlyBody(Body):
    token: Text = None
    token_type_hint: Annotated[Text, Field(alias="token_type_hint")] = None


def tokens_view(given: Tokens) -> dict[str, Json]:
    return {
        "access_token": given.access,
        "refresh_token": given.refresh,
        "expires_in": int(LIFETIME.total_seconds()),
        "token_type": "Bearer",
    }
