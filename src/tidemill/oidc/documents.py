"""What a provider publishes: its endpoints (OpenID Connect Discovery 1.0) and its keys (RFC 7517), each cached."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from threading import Lock
from typing import Any, Final
from urllib.parse import urlsplit

from cryptography.exceptions import UnsupportedAlgorithm
from joserfc.errors import JoseError
from joserfc.jwk import ECKey, OKPKey, RSAKey
from joserfc.util import base64_to_int

from tidemill.model.provider_url import is_loopback, is_safe
from tidemill.oidc.asking import ProviderFailed, ask
from tidemill.oidc.id_token import BadIdToken, Header, Key

KEPT_FOR: Final = timedelta(hours=1)
AGAIN_AFTER: Final = timedelta(minutes=1)
"""A key that is not among those we have is asked for again, but not more often than so."""

_PATH: Final = "/.well-known/openid-configuration"
_MOST_KEYS: Final = 100
_LEAST_RSA_BITS: Final = 2_048
_KINDS: Final[Mapping[str, type[Key]]] = {"RSA": RSAKey, "EC": ECKey, "OKP": OKPKey}
_KIND_OF: Final = {"RS": "RSA", "PS": "RSA", "ES": "EC", "Ed": "OKP"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Endpoints:
    """``userinfo`` may be "". ``names_itself``: it says who it is when it sends the browser back (RFC 9207)."""

    authorization: str
    token: str
    keys: str
    userinfo: str
    takes_basic: bool
    names_itself: bool


@dataclass(frozen=True, slots=True)
class _Published:
    """A public key, and what its owner says of it; "" for what is not said."""

    kid: str
    kind: str
    algorithm: str
    key: Key


class Documents:
    """Those of one provider. Whoever finds nothing in the cache asks, and the others wait for the answer."""

    def __init__(self, issuer: str, timeout_s: float) -> None:
        self._issuer, self._timeout_s = issuer, timeout_s
        self._lock = Lock()
        self._endpoints: tuple[datetime, Endpoints] | None = None
        self._keys: tuple[datetime, list[_Published]] | None = None

    def endpoints(self, now: datetime) -> Endpoints:
        """At most one request. Raises ProviderFailed, also where the document is another issuer's."""
        with self._lock:
            if self._endpoints is None or not _is_fresh(self._endpoints[0], now, KEPT_FOR):
                self._endpoints = now, self._ask_endpoints()
            return self._endpoints[1]

    def key(self, header: Header, now: datetime) -> Key:
        """The key that a token of this header is signed with. At most two requests.

        Raises BadIdToken where no key of the provider, or more than one, could be it; ProviderFailed.
        """
        url = self.endpoints(now).keys
        with self._lock:
            if self._keys is None or not _is_fresh(self._keys[0], now, KEPT_FOR):
                self._keys = now, self._ask_keys(url)
            fitting = _fitting(self._keys[1], header)
            if not fitting and not _is_fresh(self._keys[0], now, AGAIN_AFTER):
                self._keys = now, self._ask_keys(url)
                fitting = _fitting(self._keys[1], header)
        if len(fitting) != 1:
            raise BadIdToken("kid: no key of the provider" if not fitting else "kid: several keys could be it")
        return fitting[0].key

    def _ask_endpoints(self) -> Endpoints:
        url = f"{self._issuer.rstrip('/')}{_PATH}"
        answer = ask(url, self._timeout_s)
        if answer.status != 200:
            raise ProviderFailed(f"{url}: status {answer.status}")
        said = answer.members
        if said.get("issuer") != self._issuer:
            raise ProviderFailed(f"{url}: names another issuer than {self._issuer}")
        loopback = is_loopback(urlsplit(self._issuer).hostname or "")

        def endpoint(name: str) -> str:
            found = said.get(name)
            if not isinstance(found, str) or not is_safe(found, loopback=loopback):
                raise ProviderFailed(f"{url}: {name} is no https URL")
            return found

        # basic is what holds where a provider says nothing
        methods = said.get("token_endpoint_auth_methods_supported", ["client_secret_basic"])
        return Endpoints(
            authorization=endpoint("authorization_endpoint"),
            token=endpoint("token_endpoint"),
            keys=endpoint("jwks_uri"),
            userinfo=endpoint("userinfo_endpoint") if "userinfo_endpoint" in said else "",
            takes_basic=isinstance(methods, list) and "client_secret_basic" in methods,
            names_itself=said.get("authorization_response_iss_parameter_supported") is True,
        )

    def _ask_keys(self, url: str) -> list[_Published]:
        answer = ask(url, self._timeout_s)
        found = answer.members.get("keys")
        if answer.status != 200 or not isinstance(found, list):
            raise ProviderFailed(f"{url}: status {answer.status}, and no set of keys")
        published = (_published(each) for each in found[:_MOST_KEYS])
        return [each for each in published if each is not None]


def _is_fresh(since: datetime, now: datetime, lasts: timedelta) -> bool:
    # a clock that was put back must not keep anything for ever
    return timedelta() <= now - since < lasts


def _fitting(published: list[_Published], header: Header) -> list[_Published]:
    kind = _KIND_OF[header.algorithm[:2]]
    return [
        each
        for each in published
        if each.kind == kind and each.algorithm in {"", header.algorithm} and header.kid in {"", each.kid}
    ]


def _published(members: Any) -> _Published | None:
    """None for a key of another kind or purpose, or too short a one: a set may hold those too (RFC 7517, 5)."""
    if not isinstance(members, dict) or members.get("use", "sig") != "sig":
        return None
    kind, kid, algorithm = members.get("kty"), members.get("kid", ""), members.get("alg", "")
    if not isinstance(kind, str) or kind not in _KINDS or not isinstance(kid, str) or not isinstance(algorithm, str):
        return None
    try:
        # only what makes a public key: what else stands there must not matter
        public = {name: members[name] for name in ("kty", "crv", "n", "e", "x", "y") if name in members}
        if kind == "RSA" and base64_to_int(members["n"]).bit_length() < _LEAST_RSA_BITS:
            return None
        key = _KINDS[kind].import_key(public)
    except (JoseError, UnsupportedAlgorithm, ValueError, TypeError, KeyError, OverflowError):
        return None
    return _Published(kid, kind, algorithm, key)
