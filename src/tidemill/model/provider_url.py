"""Which URLs of an OpenID provider are taken: those of https, and of this machine."""

from ipaddress import ip_address
from typing import Final
from urllib.parse import urlsplit

LONGEST: Final = 2_048


def is_loopback(host: str) -> bool:
    """Whether it is this machine, by the name that stands there alone."""
    if host == "localhost":
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False


def is_safe(url: str, *, loopback: bool) -> bool:
    """Whether it is a whole URL of https, or with ``loopback`` one of this machine."""
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname or "", parts.port
    except ValueError:
        return False
    if not host or "@" in parts.netloc or parts.fragment or len(url) > LONGEST or not url.isascii():
        return False
    if any(letter <= " " or letter in '\\"<>\x7f' for letter in url):
        return False
    return parts.scheme == "https" or (parts.scheme == "http" and loopback and is_loopback(host))
