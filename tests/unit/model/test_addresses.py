"""Which addresses are public. A row names one address of a kind; what is not listed in the code is not public."""

from ipaddress import ip_address

import pytest

from tidemill.model.addresses import Allowed, is_host_name, is_public, unwrapped

NOT_PUBLIC = {
    "unspecified": ("0.0.0.0", "0.1.2.3", "::"),
    "private": ("10.0.0.1", "10.255.255.255", "172.16.0.1", "172.31.255.255", "192.168.0.1"),
    "loopback": ("127.0.0.1", "127.255.255.254", "::1"),
    "link-local": ("169.254.0.1", "fe80::1", "febf::1"),
    "cloud metadata": ("169.254.169.254", "169.254.170.2", "100.100.100.200", "192.0.0.192", "fd00:ec2::254"),
    "the platform of a cloud": ("168.63.129.16",),
    "carrier": ("100.64.0.1", "100.127.255.255"),
    "protocol assignments": ("192.0.0.8", "2001:1::1"),
    "documentation": ("192.0.2.1", "198.51.100.1", "203.0.113.1", "2001:db8::1", "3fff::1"),
    "benchmarks": ("198.18.0.1", "198.19.255.255", "2001:2::1"),
    "multicast": ("224.0.0.1", "239.255.255.250", "ff02::1", "ff0e::1"),
    "reserved": ("240.0.0.1", "255.255.255.255"),
    "unique local": ("fc00::1", "fd12:3456::1"),
    "site-local": ("fec0::1",),
    "6to4": ("2002:7f00:1::", "2002:a00:1::1", "2002:808:808::1", "192.88.99.1"),
    "Teredo": ("2001::1", "2001:0:53aa:64c:0:fbff:80ff:fffe"),
    "ORCHID": ("2001:10::1", "2001:20::1"),
    "mapped": ("::ffff:127.0.0.1", "::ffff:10.0.0.1", "::ffff:169.254.169.254", "::ffff:0.0.0.0"),
    "compatible": ("::127.0.0.1", "::8.8.8.8"),
    "translated": ("::ffff:0:127.0.0.1", "::ffff:0:8.8.8.8"),
    "NAT64": ("64:ff9b::127.0.0.1", "64:ff9b::10.0.0.1", "64:ff9b::169.254.169.254"),
    "local NAT64": ("64:ff9b:1::1", "64:ff9b:1::8.8.8.8", "64:ff9b:1:ffff:ffff:ffff:8.8.8.8"),
    "ISATAP": ("2a00::5efe:127.0.0.1", "2a00::200:5efe:10.0.0.1"),
    "discard, segments, given back": ("100::1", "5f00::1", "3ffe::1"),
}
PUBLIC = (
    *("8.8.8.8", "1.1.1.1", "9.255.255.255", "11.0.0.1", "100.63.255.255", "100.128.0.1", "126.255.255.255"),
    *("128.0.0.1", "168.63.129.15", "169.253.255.255", "172.15.255.255", "172.32.0.1", "192.0.1.1", "192.167.0.1"),
    *("198.17.255.255", "198.20.0.1", "223.255.255.255", "2606:4700::1111", "2a00:1450::1", "2001:4860:4860::8888"),
    *("::ffff:8.8.8.8", "64:ff9b::8.8.8.8", "2a00::5efe:8.8.8.8"),
)


@pytest.mark.parametrize("text", [text for texts in NOT_PUBLIC.values() for text in texts])
def test_what_is_not_handed_out_to_anybody_is_not_public(text: str) -> None:
    assert not is_public(unwrapped(ip_address(text)))
    assert not Allowed().reaches(ip_address(text))


@pytest.mark.parametrize("text", PUBLIC)
def test_public_addresses_are_and_so_are_the_neighbours_of_those_that_are_not(text: str) -> None:
    assert Allowed().reaches(ip_address(text))


def test_a_network_that_is_allowed_is_reached_in_every_spelling_and_no_other_is() -> None:
    allowed = Allowed.parse(["10.1.0.0/16", "fd00:1::/32", "127.0.0.1"])
    for text in ("10.1.2.3", "::ffff:10.1.2.3", "64:ff9b::10.1.2.3", "fd00:1::5", "127.0.0.1"):
        assert allowed.reaches(ip_address(text)), text
    for text in ("10.2.0.1", "::ffff:10.2.0.1", "fd00:2::5", "127.0.0.2", "2002:a01:203::"):
        assert not allowed.reaches(ip_address(text)), text


def test_a_network_of_ipv6_allows_no_ipv4_that_is_mapped_into_it() -> None:
    assert not Allowed.parse(["::ffff:0:0/96"]).reaches(ip_address("::ffff:10.0.0.1"))


def test_names_are_kept_in_small_letters() -> None:
    assert Allowed.parse(["Hooks.Internal", "redis"]).hosts == {"hooks.internal", "redis"}


@pytest.mark.parametrize("entry", ["", "10.0.0.1/8", "*.internal", "http://hooks", "hooks:80", "0x7f.1", "a..b", "é"])
def test_what_is_neither_network_nor_name_is_refused_by_name(entry: str) -> None:
    with pytest.raises(ValueError, match=r"is neither a network") as refused:
        Allowed.parse(["10.0.0.0/8", entry])
    assert repr(entry) in str(refused.value)


@pytest.mark.parametrize(
    "text", ["1", "0x7f", "0x", "a.0x1f", "a.1", "127.1", "017700000001", "-a", "a-", "a" * 64, f"{'a.' * 126}aa"]
)
def test_a_name_is_nothing_that_a_resolver_may_take_for_a_number(text: str) -> None:
    assert not is_host_name(text)


@pytest.mark.parametrize("text", ["a", "a.b", "1a.b", "xn--fiqs8s.example", "_srv.a", "a.b0", "0.example", "a.xf"])
def test_other_names_are_names(text: str) -> None:
    assert is_host_name(text)
