"""Who sends a request, by address: the peer of the connection, or whom a trusted proxy names."""

from collections.abc import Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address
from typing import Final

from starlette.types import Scope

Network = IPv4Network | IPv6Network

_FORWARDED: Final = b"x-forwarded-for"
# an IPv6 address may name an interface, of any length
_LONGEST: Final = 64


@dataclass(frozen=True, slots=True)
class Caller:
    """``address``: as it is shown, at most 64 characters. ``counted``: by what it is counted: of IPv6 the site, /64."""

    address: str
    counted: str


def caller(scope: Scope, proxies: Sequence[Network]) -> Caller:
    """Whoever sends this request. ``X-Forwarded-For`` is believed as far as ``proxies`` have written it."""
    peer: str = scope["client"][0] if scope.get("client") else ""
    if not proxies and ":" not in peer:
        return Caller(peer, peer)
    address = _parse(peer)
    if address is None:
        return Caller(peer, peer)
    if _trusted(address, proxies):
        # the last proxy wrote at the end; what stands before the first stranger is anybody's invention
        named = b",".join(value for name, value in scope["headers"] if name == _FORWARDED).split(b",")
        for text in reversed(named):
            before = _parse(text.decode("latin-1").strip())
            if before is None:
                break
            address = before
            if not _trusted(address, proxies):
                break
    shown = str(address)[:_LONGEST]
    return Caller(shown, address.packed[:8].hex() if isinstance(address, IPv6Address) else shown)


def _parse(text: str) -> IPv4Address | IPv6Address | None:
    try:
        address = ip_address(text)
    except ValueError:
        return None
    # how a listener for both families sees IPv4
    return (address.ipv4_mapped or address) if isinstance(address, IPv6Address) else address


def _trusted(address: IPv4Address | IPv6Address, proxies: Sequence[Network]) -> bool:
    return any(address in network for network in proxies)
