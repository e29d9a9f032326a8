"""Access tokens as JWTs signed with EdDSA (RFC 7519, 8037, 9068). Pure: no clock, no store."""

import base64
import binascii
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import lru_cache
from typing import Any, Final

import msgspec
from joserfc import jwt
from joserfc.errors import JoseError, UnsupportedAlgorithmError
from joserfc.jwk import OKPKey
from joserfc.jws import JWSRegistry
from joserfc.jwt import JWTClaimsRegistry

ALGORITHM: Final = "EdDSA"
LIFETIME: Final = timedelta(hours=2)
"""Of an access token (contract 2.3)."""

_CURVE: Final = "Ed25519"
_TYPE: Final = "at+jwt"
_LONGEST: Final = 4_096
# between the clocks of two servers; a token's end knows none
_LEEWAY_S: Final = 30
_TEXTS: Final = ("sub", "jti", "workspace", "scope", "role", "sid")


class BadToken(ValueError):
    """No access token of ours that is good now. It never says why: that would help only who makes them up."""


class _OnlyEdDSA(JWSRegistry):
    """Knows one algorithm, whatever a header asks for. The library warns of its name, which RFC 9864 split in two:
    verifiers that know the new names are still rare."""

    max_payload_length = _LONGEST

    def get_alg(self, name: str) -> Any:
        if name != ALGORITHM:
            raise UnsupportedAlgorithmError(name)
        return self.algorithms[ALGORITHM]


_REGISTRY: Final = _OnlyEdDSA(algorithms=[ALGORITHM])


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyPair:
    """``public`` and ``private`` are the members ``x`` and ``d`` of a JWK (RFC 8037)."""

    kid: str
    public: str
    private: str = field(repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Claims:
    """What a token says. ``scope``: words with blanks between; ``session``: of a person's sign-in, "" for a program."""

    subject: str
    workspace: str
    role: str
    scope: str
    session: str
    issued_at: datetime
    id: str = field(default_factory=lambda: uuid.uuid4().hex)

    @property
    def expires_at(self) -> datetime:
        return self.issued_at + LIFETIME


@dataclass(frozen=True, slots=True, kw_only=True)
class Unproven:
    """What a token says of itself, believed by nobody: by what to look up who could have signed it."""

    kid: str
    id: str
    subject: str
    workspace: str
    session: str


def new_pair() -> KeyPair:
    """A fresh Ed25519 key."""
    key = OKPKey.generate_key(_CURVE).as_dict(private=True)
    return KeyPair(kid=uuid.uuid4().hex, public=str(key["x"]), private=str(key["d"]))


def sign(claims: Claims, key: KeyPair, issuer: str) -> str:
    """The token's text. The issuer is its only audience: this API."""
    header = {"alg": ALGORITHM, "typ": _TYPE, "kid": key.kid}
    return encoded(header, claims_view(claims, issuer), key)


def encoded(header: Mapping[str, str], members: Mapping[str, Any], key: KeyPair) -> str:
    """A JWT of these members, right or wrong."""
    return jwt.encode(dict(header), dict(members), _key(key.public, key.private), registry=_REGISTRY)


def claims_view(claims: Claims, issuer: str) -> dict[str, Any]:
    """The members of the token's JSON. Times are whole seconds, so it ends up to one before its two hours."""
    issued = int(claims.issued_at.timestamp())
    return {
        "iss": issuer,
        "aud": issuer,
        "sub": claims.subject,
        "jti": claims.id,
        "iat": issued,
        "exp": issued + int(LIFETIME.total_seconds()),
        "workspace": claims.workspace,
        "role": claims.role,
        "scope": claims.scope,
        "sid": claims.session,
    }


def is_token(credential: str) -> bool:
    """Whether it has the form of a token, and so is no API key."""
    return credential.startswith("ey") and credential.count(".") == 2


def unproven(token: str) -> Unproven:
    """Raises BadToken for what has not even the form."""
    if len(token) > _LONGEST or not token.isascii():
        raise BadToken
    header, payload = (_members(part) for part in token.split(".")[:2])
    return Unproven(
        kid=_text(header, "kid"),
        id=_text(payload, "jti"),
        subject=_text(payload, "sub"),
        workspace=_text(payload, "workspace"),
        session=_text(payload, "sid"),
    )


def proven(token: str, public: str, *, issuer: str, now: datetime) -> Claims:
    """What the token says, if the owner of ``public`` signed it for us and it is good now. Raises BadToken."""
    told = JWTClaimsRegistry(
        now=int(now.timestamp()),
        leeway=_LEEWAY_S,
        iss={"essential": True, "value": issuer},
        aud={"essential": True, "value": issuer},
        exp={"essential": True},
        iat={"essential": True},
    )
    try:
        read = jwt.decode(token, _key(public), registry=_REGISTRY)
        told.validate(read.claims)
    except (JoseError, ValueError) as error:
        raise BadToken from error
    members = read.claims
    if read.header.get("typ") != _TYPE or not all(isinstance(members.get(name), str) for name in _TEXTS):
        raise BadToken
    if members["exp"] <= now.timestamp() or members["exp"] - members["iat"] > LIFETIME.total_seconds():
        raise BadToken
    return Claims(
        subject=members["sub"],
        workspace=members["workspace"],
        role=members["role"],
        scope=members["scope"],
        session=members["sid"],
        issued_at=datetime.fromtimestamp(members["iat"], now.tzinfo),
        id=members["jti"],
    )


def published(kid: str, public: str) -> dict[str, str]:
    """The public key as JSON (RFC 7517)."""
    return {"kty": "OKP", "crv": _CURVE, "x": public, "kid": kid, "alg": ALGORITHM, "use": "sig"}


@lru_cache(maxsize=32)
def _key(public: str, private: str = "") -> OKPKey:
    members: dict[str, str | list[str]] = {"kty": "OKP", "crv": _CURVE, "x": public}
    return OKPKey.import_key({**members, "d": private} if private else members)


def _members(part: str) -> Mapping[str, Any]:
    try:
        found = msgspec.json.decode(base64.urlsafe_b64decode(part + "=" * (-len(part) % 4)))
    except (msgspec.MsgspecError, binascii.Error, ValueError, RecursionError) as error:
        raise BadToken from error
    if not isinstance(found, dict):
        raise BadToken
    return found


def _text(members: Mapping[str, Any], name: str) -> str:
    value = members.get(name)
    if not isinstance(value, str):
        raise BadToken
    return value
