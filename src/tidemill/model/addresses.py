"""Which addresses a request that a user aims may go to; settings read it too.

Source: the special-purpose registries of IANA (RFC 6890). ``ipaddress.is_global`` is not used: it differs between
versions of Python, and knows neither translated addresses nor what clouds hide behind public ones.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from typing import Final

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network

LONGEST_HOST: Final = 253
# names of machines as resolvers take them; what ends in a number or 0x is how some of them write an address
_LABEL: Final = r"[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?"
_NAME: Final = re.compile(rf"{_LABEL}(?:\.{_LABEL})*")
_NUMBER: Final = re.compile(r"(?:.*\.)?(?:[0-9]+|0x[0-9a-f]*)")

_NOT_PUBLIC_4: Final = tuple(
    map(
        IPv4Network,
        (
            "0.0.0.0/8",  # this network; unspecified, which most systems take for loopback
            "10.0.0.0/8",  # private
            "100.64.0.0/10",  # shared by customers of a carrier; metadata of some clouds
            "127.0.0.0/8",  # loopback
            "168.63.129.16/32",  # the platform of a cloud, behind a public address
            "169.254.0.0/16",  # link-local; metadata of most clouds
            "172.16.0.0/12",  # private
            "192.0.0.0/24",  # protocol assignments; metadata of some clouds
            "192.0.2.0/24",  # documentation
            "192.88.99.0/24",  # relays of 6to4
            "192.168.0.0/16",  # private
            "198.18.0.0/15",  # benchmarks
            "198.51.100.0/24",  # documentation
            "203.0.113.0/24",  # documentation
            "224.0.0.0/4",  # multicast
            "240.0.0.0/4",  # reserved, broadcast
        ),
    )
)
# all that is handed out to anybody; loopback, mapped, unique local, link-local, multicast and more lie outside of it
_PUBLIC_6: Final = IPv6Network("2000::/3")
_NOT_PUBLIC_6: Final = tuple(
    map(
        IPv6Network,
        (
            "2001::/23",  # protocol assignments: Teredo, benchmarks, ORCHID
            "2001:db8::/32",  # documentation
            "2002::/16",  # 6to4: an IPv4 address of anybody's choice
            "3ffe::/16",  # given back
            "3fff::/20",  # documentation
        ),
    )
)
_MAPPED: Final = IPv6Network("::ffff:0:0/96")
# the well-known prefix, by which networks without IPv4 reach it; 64:ff9b:1::/48 is local and means what a site says
_NAT64: Final = IPv6Network("64:ff9b::/96")
# the second half of an address that ISATAP makes, before the IPv4 address that it leads to
_ISATAP: Final = frozenset({0x00005EFE, 0x02005EFE})


@dataclass(frozen=True, slots=True, kw_only=True)
class Allowed:
    """What the operator lets requests reach besides public addresses: networks, and names of hosts in small letters."""

    networks: tuple[Network, ...] = ()
    hosts: frozenset[str] = frozenset()

    @classmethod
    def parse(cls, entries: Iterable[str]) -> "Allowed":
        """From networks, addresses and names of hosts. Raises ValueError naming the entry that is none of them."""
        networks, hosts = list[Network](), set[str]()
        for entry in entries:
            network = _network(entry)
            if network is not None:
                networks.append(network)
            elif is_host_name(entry.lower()):
                hosts.add(entry.lower())
            else:
                raise ValueError(
                    f"{entry!r} is neither a network like 10.0.0.0/8, nor an address, nor the name of a host"
                )
        return cls(networks=tuple(networks), hosts=frozenset(hosts))

    def reaches(self, address: Address) -> bool:
        """Whether requests may go to ``address``: a public one, or one in a network that is allowed."""
        seen = unwrapped(address)
        return is_public(seen) or any(seen in network for network in self.networks)


def is_host_name(text: str) -> bool:
    """Whether it is a name in small ASCII letters, without a dot at its end, that nobody could read as a number."""
    return len(text) <= LONGEST_HOST and _NAME.fullmatch(text) is not None and _NUMBER.fullmatch(text) is None


def unwrapped(address: Address) -> Address:
    """The IPv4 address that an IPv6 address is only another spelling of, by mapping or NAT64; else itself."""
    if isinstance(address, IPv6Address) and (address in _MAPPED or address in _NAT64):
        return IPv4Address(int(address) & 0xFFFF_FFFF)
    return address


def is_public(address: Address) -> bool:
    """Whether anybody on the Internet may have ``address`` (see ``unwrapped``); what is unknown is not public."""
    if isinstance(address, IPv4Address):
        return not any(address in network for network in _NOT_PUBLIC_4)
    if address not in _PUBLIC_6 or any(address in network for network in _NOT_PUBLIC_6):
        return False
    tunnelled = (int(address) >> 32) & 0xFFFF_FFFF in _ISATAP
    return not tunnelled or is_public(IPv4Address(int(address) & 0xFFFF_FFFF))


def literal(host: str) -> Address | None:
    """The address that ``host`` spells in its one usual way; None for a name, and for all unusual spellings."""
    try:
        return None if "%" in host else ip_address(host)
    except ValueError:
        return None


def _network(text: str) -> Network | None:
    try:
        return ip_network(text)
    except ValueError:
        return None
