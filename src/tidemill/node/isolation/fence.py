"""Addresses that no task reaches, such as those of a cloud's metadata: packet rules on the numbers that tasks run as.

The rules are a table of nftables for each block of users, named by its first number; the kernel looks at who made the
socket, not at where the packet seems to come from. DNS is let through, since some clouds answer it at the very same
address.
"""

import ctypes
import errno
import os
import re
import shutil
import socket
import subprocess
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from ipaddress import IPv4Network, IPv6Network, collapse_addresses, ip_network
from typing import Final, TypeVar

# nobody listens there, and a packet to it leaves no machine: whether the rules hold is tried on it
TRIED: Final = "127.255.169.254"
NFT_TIMEOUT_S: Final = 10.0
NO_NFT: Final = "nft is not installed"

_PATH: Final = f"{os.defpath}:/usr/sbin:/sbin"
_PREFIX: Final = "tidemill_"
_TABLE: Final = re.compile(rf"^table inet {_PREFIX}([0-9]+)$", re.MULTILINE)
_DNS: Final = 53

Network = IPv4Network | IPv6Network
N = TypeVar("N", IPv4Network, IPv6Network)


class Fence:
    """Stands until it is closed, or until a node that has the same block of users makes its own."""

    def __init__(self, table: str) -> None:
        self._table = table

    def close(self) -> None:
        """Tasks that run on, if there are any, reach the addresses again."""
        with suppress(OSError):
            _nft(f"delete table inet {self._table}\n")


def raise_fence(name: str, uids: Sequence[int], addresses: Iterable[str], more: range = range(0)) -> Fence:
    """Keep processes of ``uids`` (at least one) and of ``more`` from ``addresses``, which are addresses or networks.

    ``name`` is the first number of the block that they are, or another word where nobody is to find it again. Takes
    some ten milliseconds. Raises OSError, with a text for people, when the rules cannot be made or do not hold; then
    there are none.
    """
    table = f"{_PREFIX}{name}"
    _nft(rules(table, uids, [ip_network(each) for each in (*addresses, TRIED)], more))
    fence = Fence(table)
    try:
        _prove(uids[-1])
    except OSError:
        fence.close()
        raise
    return fence


def clear_fences(is_dead: Callable[[int], bool]) -> None:
    """Remove what nodes that were killed have left; ``is_dead`` says of the first number of a block that nobody has it.

    Does nothing where there is no nft, for then nothing was left.
    """
    left: list[int] = []
    with suppress(OSError):
        left = [int(first) for first in _TABLE.findall(_nft("list tables\n"))]
    for first in filter(is_dead, left):
        Fence(f"{_PREFIX}{first}").close()


def rules(table: str, uids: Iterable[int], networks: Sequence[Network], more: range = range(0)) -> str:
    """The script for nft that puts the table up anew, whether there was one or not, in one step.

    ``more`` are users that are none of ``uids``.
    """
    runs = [*_runs(uids), *([(more.start, more.stop - 1)] if more else [])]
    users = ", ".join(f"{first}-{last}" for first, last in runs)
    refused = [
        f"meta skuid @users {family} daddr {{ {', '.join(map(str, found))} }} {verdict}"
        for family, found in (("ip", _apart(networks, IPv4Network)), ("ip6", _apart(networks, IPv6Network)))
        if found
        # a reset is heard at once, and over IPv6 by every kernel; what is no TCP is told as a router would
        for verdict in ("meta l4proto tcp reject with tcp reset", "reject with icmpx type admin-prohibited")
    ]
    lines = [
        f"add table inet {table}",
        f"delete table inet {table}",
        f"table inet {table} {{",
        f"set users {{ type uid; flags interval; elements = {{ {users} }}; }}",
        # before whatever the machine itself does with packets: an address that is translated is still the one asked for
        "chain output { type filter hook output priority -310; policy accept;",
        f"meta skuid @users meta l4proto {{ tcp, udp }} th dport {_DNS} accept",
        *refused,
        "}",
        "}",
    ]
    return "\n".join(lines) + "\n"


def _apart(networks: Iterable[Network], kind: type[N]) -> list[N]:
    """Those of one kind, without what lies in another: a set of nft takes no two that overlap."""
    return list(collapse_addresses(each for each in networks if isinstance(each, kind)))


def _runs(uids: Iterable[int]) -> Iterator[tuple[int, int]]:
    """The first and the last of each run of numbers without a gap, in order."""
    ordered = sorted(uids)
    first = last = ordered[0]
    for uid in ordered[1:]:
        if uid != last + 1:
            yield first, last
            first = uid
        last = uid
    yield first, last


def _nft(script: str) -> str:
    """What nft says to ``script``. Raises OSError."""
    nft = shutil.which("nft", path=_PATH)
    if nft is None:
        raise OSError(errno.ENOENT, NO_NFT)
    try:
        done = subprocess.run(
            [nft, "-f", "-"], input=script, capture_output=True, text=True, check=False, timeout=NFT_TIMEOUT_S
        )
    except subprocess.SubprocessError as error:
        raise OSError(errno.ETIMEDOUT, f"nft does not end: {error}") from error
    if done.returncode != 0:
        said = next(iter(done.stderr.strip().splitlines()), f"exit code {done.returncode}")
        raise OSError(errno.EPERM, f"nft refuses: {said}")
    return done.stdout


def _prove(uid: int) -> None:
    """Raises OSError unless ``uid`` is kept from an address that we reach."""
    with socket.create_server((TRIED, 0)) as listener:
        address = listener.getsockname()
        with socket.create_connection(address, timeout=NFT_TIMEOUT_S):
            pass
        with _sockets_of(uid), socket.socket() as theirs:
            theirs.settimeout(NFT_TIMEOUT_S)
            if theirs.connect_ex(address) == 0:
                raise OSError(errno.ENOTSUP, "the kernel takes packet rules on users, and does not follow them")


@contextmanager
def _sockets_of(uid: int) -> Iterator[None]:
    """Sockets that this thread makes meanwhile are ``uid``'s."""
    # a thread's user for files is its own affair; glibc leaves the other threads theirs
    libc = ctypes.CDLL(None)
    libc.setfsuid(uid)
    try:
        yield
    finally:
        libc.setfsuid(os.geteuid())
