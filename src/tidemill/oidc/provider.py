"""The flow with one provider: where a browser is sent, and what the code that it brings back is good for."""

import base64
import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final
from urllib.parse import urlencode

from tidemill.oidc.asking import Answer, ProviderFailed, ask
from tidemill.oidc.documents import Documents, Endpoints
from tidemill.oidc.id_token import BadIdToken, Expected, header_of, verified

_OUR_FAULT: Final = frozenset({"invalid_client", "unauthorized_client", "invalid_scope", "unsupported_grant_type"})
_LONGEST_TOKEN: Final = 64 << 10


class BadCode(ValueError):
    """A code that the provider does not take: used before, too old, or another's. The text is for the log."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Registration:
    """Who we are to the provider. ``secret`` is "" for a public client; ``name`` is what people call the provider."""

    name: str
    issuer: str
    client_id: str
    secret: str = field(repr=False)
    redirect_uri: str
    scopes: str = "openid email profile"
    timeout_s: float = 10.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Secrets:
    """Of one sign-in; fresh and random. ``verifier`` is PKCE's (RFC 7636): 43 to 128 characters of base64url."""

    state: str = field(repr=False)
    nonce: str = field(repr=False)
    verifier: str = field(repr=False)


class Provider:
    """Blocks: not for an event loop, and not inside a unit. Its documents are kept in memory for an hour."""

    def __init__(self, registration: Registration) -> None:
        self.registration = registration
        self._documents = Documents(registration.issuer, registration.timeout_s)

    def names_itself(self, now: datetime) -> bool:
        """Whether a browser that comes back must bring ``iss`` (RFC 9207). At most one request; ProviderFailed."""
        return self._documents.endpoints(now).names_itself

    def authorization_url(self, secrets: Secrets, now: datetime) -> str:
        """Where a browser goes to sign in. At most one request. Raises ProviderFailed."""
        url = self._documents.endpoints(now).authorization
        challenge = hashlib.sha256(secrets.verifier.encode()).digest()
        query = {
            "response_type": "code",
            "client_id": self.registration.client_id,
            "redirect_uri": self.registration.redirect_uri,
            "scope": self.registration.scopes,
            "state": secrets.state,
            "nonce": secrets.nonce,
            "code_challenge": base64.urlsafe_b64encode(challenge).rstrip(b"=").decode(),
            "code_challenge_method": "S256",
        }
        return f"{url}{'&' if '?' in url else '?'}{urlencode(query)}"

    def claims(self, code: str, secrets: Secrets, wanted: Iterable[str], now: datetime) -> Mapping[str, Any]:
        """What the provider says of the person in the ID token, and in its userinfo where that lacks what is wanted.

        Up to five requests. Raises BadCode, BadIdToken, ProviderFailed.
        """
        endpoints = self._documents.endpoints(now)
        given = self._exchange(endpoints, code, secrets)
        token, access = given.get("id_token"), given.get("access_token", "")
        if not isinstance(token, str) or not isinstance(access, str) or len(access) > _LONGEST_TOKEN:
            raise ProviderFailed(f"{endpoints.token}: no id_token, or an access_token that is none")
        expected = Expected(
            issuer=self.registration.issuer,
            client_id=self.registration.client_id,
            nonce=secrets.nonce,
            access_token=access,
        )
        claims = verified(token, self._documents.key(header_of(token), now), expected, now=now)
        if not endpoints.userinfo or not access or all(claim in claims for claim in wanted):
            return claims
        return _together(claims, self._userinfo(endpoints, access, claims["sub"]))

    def _exchange(self, endpoints: Endpoints, code: str, secrets: Secrets) -> Mapping[str, Any]:
        ours = self.registration
        form = {
            "grant_type": "authorization_code",
            "code": code,
            "redirect_uri": ours.redirect_uri,
            "code_verifier": secrets.verifier,
        }
        client = (ours.client_id, ours.secret) if ours.secret and endpoints.takes_basic else None
        if client is None:
            form |= {"client_id": ours.client_id} | ({"client_secret": ours.secret} if ours.secret else {})
        answer = ask(endpoints.token, ours.timeout_s, form=form, client=client)
        if answer.status == 200:
            return answer.members
        word = _word(answer)
        if answer.status == 401 or word in _OUR_FAULT:
            raise ProviderFailed(f"{endpoints.token}: does not take this client: {word}")
        raise BadCode(f"status {answer.status}: {word}")

    def _userinfo(self, endpoints: Endpoints, access: str, subject: str) -> Mapping[str, Any]:
        answer = ask(endpoints.userinfo, self.registration.timeout_s, bearer=access)
        if answer.status != 200:
            raise ProviderFailed(f"{endpoints.userinfo}: status {answer.status}")
        # without this another person's answer could be put in its place (OpenID Connect Core, 5.3.4)
        if answer.members.get("sub") != subject:
            raise BadIdToken("sub: userinfo is about somebody else")
        return answer.members


def _together(claims: Mapping[str, Any], userinfo: Mapping[str, Any]) -> Mapping[str, Any]:
    """The ID token wins. Whether an address is verified is said by who says the address: it may be another one."""
    says = claims if "email" in claims else userinfo
    return {**userinfo, **claims, **{name: says.get(name) for name in ("email", "email_verified")}}


def _word(answer: Answer) -> str:
    """The error of an answer (RFC 6749, 5.2), if it is one of its words and no text of anybody's."""
    word = answer.members.get("error")
    return word if isinstance(word, str) and word.isascii() and word.isidentifier() and len(word) <= 64 else "no reason"
