"""ID tokens (OpenID Connect Core 1.0, section 3.1.3.7). Pure: no clock, no network."""

import base64
import hashlib
import hmac
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final

import msgspec
from joserfc import jws
from joserfc.errors import JoseError, UnsupportedAlgorithmError
from joserfc.jwk import ECKey, OKPKey, RSAKey
from joserfc.jws import JWSRegistry
from joserfc.jwt import JWTClaimsRegistry

Key = RSAKey | ECKey | OKPKey

_DIGESTS: Final = {
    **dict.fromkeys(("RS256", "PS256", "ES256"), "sha256"),
    **dict.fromkeys(("RS384", "PS384", "ES384"), "sha384"),
    **dict.fromkeys(("RS512", "PS512", "ES512", "EdDSA", "Ed25519"), "sha512"),
}
ALGORITHMS: Final = tuple(_DIGESTS)
"""All that are taken. None has a secret for a key: who checks a token could then make one."""

LEEWAY_S: Final = 60
"""Between the provider's clock and ours."""

_LONGEST: Final = 64 << 10
_LONGEST_SUBJECT: Final = 255


class BadIdToken(ValueError):
    """No ID token that says who somebody is, here and now. The text says why, for the log; it repeats no value."""


class _Asymmetric(JWSRegistry):
    """Knows ``ALGORITHMS`` and no other, whatever a header asks for. Unknown headers are no fault (RFC 7515, 4)."""

    max_header_length = 8 << 10
    max_payload_length = _LONGEST

    def get_alg(self, name: str) -> Any:
        if name not in ALGORITHMS:
            raise UnsupportedAlgorithmError(name)
        return self.algorithms[name]


_REGISTRY: Final = _Asymmetric(algorithms=ALGORITHMS, strict_check_header=False)


@dataclass(frozen=True, slots=True)
class Header:
    """What a token says of itself, believed by nobody. ``kid`` is "" where it names no key."""

    algorithm: str
    kid: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Expected:
    """What a token must say. ``access_token`` is the one that came with it, "" for none."""

    issuer: str
    client_id: str
    nonce: str = field(repr=False)
    access_token: str = field(repr=False)


def header_of(token: str) -> Header:
    """Raises BadIdToken for what has not even the form, and for an algorithm that is not taken."""
    if len(token) > _LONGEST or not token.isascii() or token.count(".") != 2:
        raise BadIdToken("too long, or not a signed token")
    part = token.partition(".")[0]
    try:
        header = msgspec.json.decode(base64.urlsafe_b64decode(part + "=" * (-len(part) % 4)))
    except (msgspec.MsgspecError, ValueError, RecursionError):
        header = None
    if not isinstance(header, dict):
        raise BadIdToken("a header that is none")
    algorithm, kid = header.get("alg"), header.get("kid", "")
    if algorithm not in ALGORITHMS:
        raise BadIdToken("alg: not one that is taken")
    # both change how a token is to be read, and no ID token needs them
    if not isinstance(kid, str) or "crit" in header or "b64" in header:
        raise BadIdToken("a header that is not taken")
    return Header(algorithm, kid)


def verified(token: str, key: Key, expected: Expected, *, now: datetime) -> Mapping[str, Any]:
    """What it says, if the owner of ``key`` signed it for us, for this sign-in, and it is good now.

    ``sub`` is in it, 1 to 255 characters of ASCII. Raises BadIdToken.
    """
    algorithm = header_of(token).algorithm
    told = JWTClaimsRegistry(
        now=int(now.timestamp()),
        leeway=LEEWAY_S,
        iss={"essential": True, "value": expected.issuer},
        aud={"essential": True, "value": expected.client_id},
        exp={"essential": True},
        iat={"essential": True},
        sub={"essential": True},
    )
    try:
        claims = msgspec.json.decode(jws.deserialize_compact(token, key, registry=_REGISTRY).payload or b"")
        if not isinstance(claims, dict):
            raise BadIdToken("not an object")
        told.validate(claims)
    except JoseError as error:
        raise BadIdToken(_reason(error)) from error
    except (msgspec.MsgspecError, ValueError, TypeError, RecursionError) as error:
        raise BadIdToken("not a signed token") from error
    _check_parties(claims, expected)
    if not _same(claims.get("nonce"), expected.nonce):
        raise BadIdToken("nonce: of another sign-in")
    if "at_hash" in claims and not _same(claims["at_hash"], _half_digest(algorithm, expected.access_token)):
        raise BadIdToken("at_hash: of another access token")
    subject = claims["sub"]
    if not 1 <= len(subject) <= _LONGEST_SUBJECT or not subject.isascii():
        raise BadIdToken("sub: not 1 to 255 characters of ASCII")
    return claims


def _check_parties(claims: Mapping[str, Any], expected: Expected) -> None:
    audience = claims["aud"]
    party = claims.get("azp")
    if isinstance(audience, list) and len(audience) > 1 and party is None:
        raise BadIdToken("azp: missing, though there are several audiences")
    if party is not None and party != expected.client_id:
        raise BadIdToken("azp: another client")


def _half_digest(algorithm: str, access_token: str) -> str:
    digest = hashlib.new(_DIGESTS[algorithm], access_token.encode()).digest()
    return base64.urlsafe_b64encode(digest[: len(digest) // 2]).rstrip(b"=").decode()


def _same(found: object, right: str) -> bool:
    return isinstance(found, str) and hmac.compare_digest(found.encode("utf-8", "surrogatepass"), right.encode())


def _reason(error: JoseError) -> str:
    """The library's word, and the claim that it is about: ``invalid_claim iss``."""
    return " ".join(word for word in (error.error, getattr(error, "claim", "")) if word)
