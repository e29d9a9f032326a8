"""A real OpenID provider as a process of its own: Canaille, at ``localhost``, which is another site than 127.0.0.1.

It prints its issuer, reads one line of JSON (``user``, ``email``, ``password``; ``client`` and ``redirect_uri`` of a
public client), prints ``ready`` and serves until it is ended. It insists on PKCE and verifies no addresses.
"""

import json
import os
import sys
from datetime import UTC, datetime
from typing import Any
from wsgiref.simple_server import make_server

from canaille import create_app
from canaille.app import models
from canaille.backends import Backend
from joserfc.jwk import RSAKey


def application(address: str) -> Any:
    """A Flask."""
    key = RSAKey.generate_key(2048)
    key.ensure_kid()
    return create_app(
        config={
            "ENV_FILE": None,
            "SECRET_KEY": os.urandom(32).hex(),
            "PREFERRED_URL_SCHEME": "http",
            "SERVER_NAME": address,
            "CANAILLE": {"DATABASE": "memory", "JAVASCRIPT": False, "ACL": {"DEFAULT": {"PERMISSIONS": ["use_oidc"]}}},
            "CANAILLE_OIDC": {"ACTIVE_JWKS": [key.as_dict(private=True)]},
        }
    )


def fill(facts: dict[str, str]) -> None:
    person = models.User(
        user_name=facts["user"],
        formatted_name="Ada Lovelace",
        given_name="Ada",
        family_name="Lovelace",
        emails=[facts["email"]],
        password=facts["password"],
    )
    client = models.Client(
        client_id=facts["client"],
        client_id_issued_at=datetime.now(UTC),
        client_name="Tidemill",
        redirect_uris=[facts["redirect_uri"]],
        response_types=["code"],
        grant_types=["authorization_code"],
        scope=["openid", "email", "profile"],
        token_endpoint_auth_method="none",
    )
    for each in (person, client):
        Backend.instance.save(each)
    client.audience = [client]  # of what it is given; it must be there before
    Backend.instance.save(client)


def main() -> None:
    os.environ["AUTHLIB_INSECURE_TRANSPORT"] = "1"  # plain HTTP, on this machine
    # its port must be known before the application is made
    server = make_server("localhost", 0, lambda _, __: [])
    address = f"localhost:{server.server_port}"
    app = application(address)
    server.set_app(app)
    print(f"http://{address}", flush=True)
    with app.app_context():
        fill(json.loads(sys.stdin.readline()))
    print("ready", flush=True)
    server.serve_forever()


if __name__ == "__main__":
    main()
