"""Who of those that an OpenID provider vouches for may come in. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from tidemill.model.errors import Forbidden
from tidemill.model.principal import Role


@dataclass(frozen=True, slots=True, kw_only=True)
class Admission:
    """Everybody, as far as nothing here says otherwise, whose account is there.

    ``domains``: what addresses must end in, in lower case; empty: any. ``claim`` and ``value``: a claim that must be
    that, or a list with it; "" asks for none. ``trusts_emails``: an address counts though nobody says it is verified.
    ``workspace``: where somebody without an account gets one, with ``role``; "": nowhere.
    """

    domains: tuple[str, ...] = ()
    claim: str = ""
    value: str = ""
    trusts_emails: bool = False
    workspace: str = ""
    role: Role = Role.MEMBER

    @property
    def wanted(self) -> tuple[str, ...]:
        """The claims without which nobody new comes in."""
        return ("email", self.claim) if self.claim else ("email",)


def admitted_email(admission: Admission, claims: Mapping[str, Any]) -> str:
    """The address by which the person is known, in lower case; "" when there is none that counts.

    Raises Forbidden for somebody who may not come in, whoever they are here.
    """
    email = claims.get("email")
    counts = isinstance(email, str) and (admission.trusts_emails or claims.get("email_verified") is True)
    address = str(email).lower() if counts else ""
    if admission.domains and address.rpartition("@")[2] not in admission.domains:
        raise Forbidden("your address is not one that may sign in here, or your provider has not verified it")
    if admission.claim:
        found = claims.get(admission.claim)
        if admission.value not in (found if isinstance(found, list) else [found]):
            raise Forbidden("your account at the provider is not one that may sign in here")
    return address
