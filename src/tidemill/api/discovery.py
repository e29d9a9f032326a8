"""What clients of OAuth find out by themselves: endpoints, and the keys that tokens are signed with.

RFC 8414, RFC 7517 and OpenID Connect Discovery 1.0. The paths below ``/v0`` are where the hosted service has them
(contract 2.3); the one above it is where RFC 8414 puts that of an issuer with a path.
"""

from functools import partial

from fastapi import APIRouter, Request
from starlette.responses import Response

from tidemill import signing
from tidemill.api.calls import base_url, context_of, json_answer
from tidemill.api.tokens import GRANTS
from tidemill.api.wire import Json
from tidemill.model.principal import SCOPES, Role
from tidemill.service import signing_keys

router = APIRouter()


@router.get("/v0/.well-known/openid-configuration")
@router.get("/v0/.well-known/oauth-authorization-server")
@router.get("/.well-known/oauth-authorization-server/v0")
async def metadata(request: Request) -> Response:
    context = context_of(request)
    return json_answer(_metadata(context.parts.issuer, f"{base_url(context, request)}/v0"))


@router.get("/v0/.well-known/jwks.json")
async def keys(request: Request) -> Response:
    context = context_of(request)
    found = await context.run(partial(signing_keys.published, context.parts, now=context.clock()))
    return json_answer({"keys": [signing.published(each.kid, each.public) for each in found]})


def _metadata(issuer: str, api: str) -> dict[str, Json]:
    return {
        "issuer": issuer,
        "token_endpoint": f"{api}/oauth/token",
        "revocation_endpoint": f"{api}/oauth/revoke",
        "introspection_endpoint": f"{api}/oauth/introspect",
        "device_authorization_endpoint": f"{api}/login/device",
        "jwks_uri": f"{api}/.well-known/jwks.json",
        "grant_types_supported": list(GRANTS),
        "response_types_supported": [],
        "scopes_supported": sorted(SCOPES[Role.ADMIN]),
        "token_endpoint_auth_methods_supported": ["client_secret_basic", "client_secret_post", "none"],
        "revocation_endpoint_auth_methods_supported": ["none"],
        "introspection_endpoint_auth_methods_supported": ["Bearer"],
        "subject_types_supported": ["public"],
        "id_token_signing_alg_values_supported": [signing.ALGORITHM],
    }
