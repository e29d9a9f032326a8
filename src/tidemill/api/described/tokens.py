"""The operations about tokens, and the schemas of their answers."""

from collections.abc import Mapping
from typing import Final

from tidemill.api.described.answers import FLAG, TEXT, WHOLE, Schema, listed, record, ref
from tidemill.api.described.operation import Operation
from tidemill.api.wire_tokens import DeviceBody, PasswordBody, TokenBody, TokenOnlyBody

_METADATA: Final = Operation(
    summary="Where clients of OAuth find what (RFC 8414)", answer=ref("OAuthMetadata"), public=True
)


def _page(summary: str) -> Operation:
    return Operation(summary=summary, answer=TEXT, media="text/html", public=True)


TOKENS: Final[Mapping[tuple[str, str], Operation]] = {
    ("POST", "/v0/oauth/token"): Operation(
        summary="A token for a client secret or a refresh token",
        answer=ref("Tokens"),
        body=TokenBody,
        errors=[400, 413, 503],
        forms=True,
        public=True,
    ),
    ("POST", "/v0/oauth/revoke"): Operation(
        summary="End a token (RFC 7009)",
        answer={"type": "object"},
        body=TokenOnlyBody,
        errors=[400, 413, 503],
        forms=True,
        public=True,
    ),
    ("POST", "/v0/oauth/introspect"): Operation(
        summary="What a token of the workspace is (RFC 7662)",
        answer=ref("Introspection"),
        body=TokenOnlyBody,
        errors=[413],
        forms=True,
    ),
    ("POST", "/v0/login/device"): Operation(
        summary="Let a program wait for a person's yes (RFC 8628)",
        answer=ref("DeviceLogin"),
        body=DeviceBody,
        errors=[400, 413, 429, 503],
        forms=True,
        public=True,
    ),
    ("PUT", "/v0/profile/password"): Operation(
        summary="Set one's own password", answer=ref("Message"), body=PasswordBody, errors=[413, 429]
    ),
    ("GET", "/login"): _page("The page where people sign in"),
    ("POST", "/login"): _page("Sign in: the form of that page"),
    ("POST", "/login/end"): _page("Sign out: a form of these pages"),
    ("GET", "/login/reset"): _page("The page where who holds an admin's link sets a password"),
    ("POST", "/login/reset"): _page("Set the password: the form of that page"),
    ("GET", "/login/oidc"): _page("Sign in through the OpenID provider: a redirect to it, or a page that says why not"),
    ("GET", "/login/oidc/callback"): _page("Where the OpenID provider sends a browser back to"),
    ("GET", "/device"): _page("The page where a person is asked about a program that waits"),
    ("POST", "/device"): _page("Yes or no: the form of that page"),
    ("GET", "/v0/.well-known/openid-configuration"): _METADATA,
    ("GET", "/v0/.well-known/oauth-authorization-server"): _METADATA,
    ("GET", "/.well-known/oauth-authorization-server/v0"): _METADATA,
    ("GET", "/v0/.well-known/jwks.json"): Operation(
        summary="The keys that tokens are signed with (RFC 7517)", answer=ref("Keys"), public=True
    ),
}
"""By method and path."""

_WORDS: Final = listed(TEXT)

TOKENS_SCHEMAS: Final[Mapping[str, Schema]] = {
    "Tokens": record(
        {
            **dict.fromkeys(("access_token", "token_type"), TEXT),
            "refresh_token": {"type": "string", "description": "empty for a program"},
            "expires_in": {"type": "integer", "description": "seconds"},
        }
    ),
    "DeviceLogin": record(
        {
            **dict.fromkeys(("device_code", "user_code", "verification_uri", "verification_uri_complete"), TEXT),
            **dict.fromkeys(("expires_in", "interval"), WHOLE),
        }
    ),
    "Introspection": record(
        {"active": FLAG},
        {
            **dict.fromkeys(
                ("token_type", "client_id", "sub", "sub_type", "workspace", "role", "scope", "jti", "iss", "aud"), TEXT
            ),
            **dict.fromkeys(("iat", "exp"), WHOLE),
        },
    ),
    "OAuthMetadata": record(
        {
            **dict.fromkeys(
                (
                    "issuer",
                    "token_endpoint",
                    "revocation_endpoint",
                    "introspection_endpoint",
                    "device_authorization_endpoint",
                    "jwks_uri",
                ),
                TEXT,
            ),
            **dict.fromkeys(
                (
                    "grant_types_supported",
                    "response_types_supported",
                    "scopes_supported",
                    "token_endpoint_auth_methods_supported",
                    "revocation_endpoint_auth_methods_supported",
                    "introspection_endpoint_auth_methods_supported",
                    "subject_types_supported",
                    "id_token_signing_alg_values_supported",
                ),
                _WORDS,
            ),
        }
    ),
    "Keys": record({"keys": listed(record(dict.fromkeys(("kty", "crv", "x", "kid", "alg", "use"), TEXT)))}),
}
