"""Where a request that a user aims may go: the form of its URL, and every address that its host has.

A URL passes twice: ``Guard.target`` looks at its form, when a user gives it; ``Guard.pin`` resolves its host, once,
when a request is about to be sent, and names the addresses that may be connected to. Nothing resolves it again.
"""

import re
import socket
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Final

import httpx2

from tidemill.model.addresses import Address, Allowed, is_host_name, literal, unwrapped

LONGEST_URL: Final = 2_000
PORTS: Final = {"http": 80, "https": 443}
# what listens below speaks older protocols than HTTP, which some of them take for their own
FIRST_FREE_PORT: Final = 1_024
LAST_PORT: Final = 65_535
_ADDRESSES: Final = 16
_VISIBLE: Final = re.compile(r"[!-~]+")
_AUTHORITY_END: Final = re.compile(r"[/?#]")

Resolver = Callable[[str, int], Sequence[str]]
"""From a host and a port to all of the host's addresses as text. Raises OSError when there are none."""


class Refused(Exception):
    """A request may not go there. The text is for whoever gave the URL: it tells no address that a name stands for."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """A URL whose form is right. ``host`` is in small letters, and has no brackets where it is an address."""

    scheme: str
    host: str
    port: int
    path: str
    """With its query, as it is sent."""

    @property
    def authority(self) -> str:
        """What the header Host says."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == PORTS[self.scheme] else f"{host}:{self.port}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Pinned:
    """A target and the addresses that may be connected to, one at least, all of them checked."""

    target: Target
    addresses: tuple[Address, ...]


def resolve(host: str, port: int) -> Sequence[str]:
    """All addresses that the machine's resolver knows. Blocks as long as that takes. Raises OSError."""
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return [str(entry[4][0]) for entry in found]


@dataclass(frozen=True, slots=True, kw_only=True)
class Guard:
    """Says where requests may go; ``allowed`` are the operator's exceptions."""

    allowed: Allowed = field(default_factory=Allowed)
    resolver: Resolver = resolve

    def target(self, url: str) -> Target:
        """The parts of ``url``, read once: what is checked is what is connected to. No I/O. Raises Refused."""
        if len(url) > LONGEST_URL:
            raise Refused(f"the URL has {len(url)} characters; it may have up to {LONGEST_URL}")
        if _VISIBLE.fullmatch(url) is None or "\\" in url:
            raise Refused(
                "the URL holds a space, a backslash or a character outside of ASCII (write a name as xn--...)"
            )
        try:
            parsed = httpx2.URL(url)
        except httpx2.InvalidURL as error:
            raise Refused(f"the URL cannot be read: {error}") from None
        if parsed.scheme not in PORTS:
            raise Refused("the URL must begin with http:// or https://")
        if parsed.userinfo or "@" in _AUTHORITY_END.split(url.partition("//")[2], maxsplit=1)[0]:
            raise Refused("the URL names a user or a password; leave them away")
        target = Target(
            scheme=parsed.scheme,
            host=parsed.raw_host.decode("ascii").lower(),
            port=PORTS[parsed.scheme] if parsed.port is None else parsed.port,
            path=parsed.raw_path.decode("ascii"),
        )
        self._check(target)
        return target

    def pin(self, target: Target) -> Pinned:
        """Resolve the target's host and check all that comes back; one bad address refuses all.

        A host that the operator has named may have any address. Raises Refused.
        """
        address = literal(target.host)
        found = (address,) if address is not None else self._resolved(target)
        if target.host not in self.allowed.hosts and not all(map(self.allowed.reaches, found)):
            raise Refused(_NOT_REACHED.format(target.host))
        return Pinned(target=target, addresses=tuple(dict.fromkeys(map(unwrapped, found)))[:_ADDRESSES])

    def _check(self, target: Target) -> None:
        """The host's form, an address that stands there itself, the port. Raises Refused."""
        address = literal(target.host)
        if address is None:
            if not is_host_name(target.host):
                raise Refused(f"the host {target.host[:64]!r} is neither the name of a host nor an address")
            if "." not in target.host and target.host not in self.allowed.hosts:
                raise Refused(f"the host {target.host[:64]!r} has no domain; write its name in full")
        elif not self.allowed.reaches(address):
            raise Refused(_NOT_REACHED.format(target.host))
        named = target.host in self.allowed.hosts or (address is not None and self._is_exception(address))
        if not 1 <= target.port <= LAST_PORT:
            raise Refused(f"the port {target.port} is none; it must be 1 to {LAST_PORT}")
        if not named and target.port != PORTS[target.scheme] and target.port < FIRST_FREE_PORT:
            raise Refused(f"the port {target.port} is neither {PORTS[target.scheme]} nor {FIRST_FREE_PORT} or higher")

    def _is_exception(self, address: Address) -> bool:
        return any(unwrapped(address) in network for network in self.allowed.networks)

    def _resolved(self, target: Target) -> tuple[Address, ...]:
        try:
            texts = self.resolver(target.host, target.port)
        except (OSError, UnicodeError):
            raise Refused(f"the host {target.host[:64]!r} has no address") from None
        found = [literal(text) for text in texts]
        # a zone, like that of fe80::1%eth0, is an address of this machine's own networks
        if not found or None in found:
            raise Refused(_NOT_REACHED.format(target.host))
        return tuple(address for address in found if address is not None)


_NOT_REACHED: Final = (
    "the host {!r} is not on the public Internet, and the server's setting callback_allow does not name it"
)
