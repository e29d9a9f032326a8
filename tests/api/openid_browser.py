"""A browser that signs in through a provider: real HTTP to that, the application over ASGI."""

from dataclasses import replace
from typing import Any, Final
from urllib.parse import parse_qs, urlsplit

import httpx2

from tests.api.asking import Api
from tests.api.openid_provider import CLIENT, REDIRECT, SECRET, Rogue
from tests.api.test_device_login import Browser
from tidemill.model.admission import Admission
from tidemill.oidc.provider import Provider, Registration

START: Final = "/login/oidc"
BACK: Final = "/login/oidc/callback"
NAME: Final = "Example <ID>"
ANYBODY: Final = Admission()


def configure(api: Api, rogue: Rogue, admission: Admission = ANYBODY, **registration: Any) -> None:
    """Serve with this provider from now on; nothing of it is known yet."""
    facts: dict[str, Any] = {
        "name": NAME,
        "issuer": rogue.url,
        "client_id": CLIENT,
        "secret": SECRET,
        "redirect_uri": REDIRECT,
        "timeout_s": 20,
    }
    provider = Provider(Registration(**{**facts, **registration}))
    api.parts = replace(api.parts, provider=provider, admission=admission)
    api.context = replace(api.context, parts=api.parts)


def invited(api: Api, email: str = "ada@example.org", **more: object) -> str:
    """The id of the account."""
    made = api.post("/v0/users", {"email": email, **more})
    assert made.status_code == 200, made.text
    found: str = made.json()["sub"]
    return found


def to_provider(answer: httpx2.Response) -> str:
    """Where the provider sends the browser back to: a path of ours."""
    assert answer.status_code == 303, answer.text
    with httpx2.Client(trust_env=False, verify=False) as client:
        sent = client.get(answer.headers["location"])
    assert sent.status_code == 302, sent.text
    assert sent.headers["location"].startswith(f"{REDIRECT}?")
    return f"{BACK}?{urlsplit(sent.headers['location']).query}"


def signed_in(browser: Browser, wanted: str = "") -> httpx2.Response:
    """The whole way; what came back in the end."""
    return browser.get(to_provider(browser.get(f"{START}?next={wanted}" if wanted else START)))


def query_of(url: str) -> dict[str, str]:
    return {name: values[0] for name, values in parse_qs(urlsplit(url).query).items()}


def held(api: Api) -> bytes:
    """All that is on the disk."""
    return b"".join(path.read_bytes() for path in api.parts.arrivals.parent.rglob("*") if path.is_file())
