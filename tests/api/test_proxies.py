"""Guesses and the audit behind proxies: whom a trusted one names is who is counted, and nobody else is believed."""

from ipaddress import ip_network
from typing import Final

import pytest

from tests.api.asking import Api
from tests.api.test_audit import all_rows
from tests.api.test_device_login import ASKED, OTHER, START, Browser
from tests.api.test_tokens import CLIENT, NOBODY, TOKEN
from tidemill.api import app as app_module
from tidemill.api.addresses import Caller, caller
from tidemill.api.limits import Rates
from tidemill.service import device_flow, entrances, sign_in

ONE: Final = "198.51.100.1"
OTHER_ONE: Final = "198.51.100.2"


class Behind(Browser):
    """A browser whose requests come through a proxy, which writes down who it is."""

    forwarded: str = ONE

    def headers(self) -> dict[str, str | None]:
        return {**super().headers(), "X-Forwarded-For": self.forwarded}


def proxied(api: Api, *networks: str) -> None:
    """Serve behind proxies of these networks; requests of the tests come from 127.0.0.1."""
    rates = Rates(unauthenticated_per_s=0, trusted_proxies=tuple(ip_network(each) for each in networks))
    api.edge, api.served = app_module.Edge(rates=rates), None


def guess(api: Api, forwarded: str, email: str = "nobody@example.org") -> int:
    browser = Behind(api)
    browser.forwarded = forwarded
    return browser.sign_in(email, OTHER).status_code


@pytest.fixture(autouse=True)
def few(monkeypatch: pytest.MonkeyPatch) -> None:
    """As many guesses from an address as a test has time for."""
    monkeypatch.setattr(sign_in, "GUESSES_FROM_ONE", 2)
    monkeypatch.setattr(device_flow, "STARTS_FROM_ONE", 2)
    monkeypatch.setattr(entrances, "REFUSALS_FROM_ONE", 2)


def test_behind_a_trusted_proxy_each_person_has_guesses_of_their_own(api: Api) -> None:
    proxied(api, "127.0.0.0/8")
    assert [guess(api, ONE) for _ in range(3)] == [401, 401, 429]
    assert guess(api, OTHER_ONE) == 401
    # what the client wrote in front of what the proxy wrote
    assert guess(api, f"{OTHER_ONE}, {ONE}") == 429


def test_from_anybody_else_the_header_is_not_believed(api: Api) -> None:
    proxied(api, "10.0.0.0/8")
    assert [guess(api, f"198.51.100.{number}") for number in range(3)] == [401, 401, 429]


def test_of_an_ipv6_site_all_are_one(api: Api) -> None:
    proxied(api, "127.0.0.0/8")
    assert [guess(api, f"2001:db8::{number}") for number in range(1, 4)] == [401, 401, 429]
    assert guess(api, "2001:db8:0:1::1") == 401


def test_so_are_programs_that_begin_to_wait(api: Api) -> None:
    def begun(forwarded: str) -> int:
        return api.post(START, ASKED, headers={**NOBODY, "X-Forwarded-For": forwarded}).status_code

    proxied(api, "127.0.0.0/8")
    assert [begun(ONE), begun(ONE), begun(ONE), begun(OTHER_ONE)] == [200, 200, 429, 200]
    proxied(api)
    assert [begun(ONE), begun(OTHER_ONE), begun(ONE)] == [200, 200, 429]


def test_the_audit_names_who_is_behind_a_trusted_proxy(api: Api) -> None:
    wrong = {**CLIENT, "client_id": "x", "client_secret": "x"}
    for networks in (["127.0.0.0/8"], ["10.0.0.0/8"]):
        proxied(api, *networks)
        api.post(TOKEN, wrong, headers={**NOBODY, "X-Forwarded-For": ONE})
        api.delete("/v0/jobs/none", headers={"X-Forwarded-For": OTHER_ONE})
    assert [row.address for row in all_rows(api)] == [ONE, OTHER_ONE, "127.0.0.1", "127.0.0.1"]


def test_rows_of_refusals_are_counted_by_it_too(api: Api) -> None:
    wrong = {**CLIENT, "client_id": "x", "client_secret": "x"}
    proxied(api, "127.0.0.0/8")
    for address in (ONE, ONE, ONE, ONE, OTHER_ONE):
        api.post(TOKEN, wrong, headers={**NOBODY, "X-Forwarded-For": address})
    assert [(row.action, row.address) for row in all_rows(api)] == [
        *[("tokens.create", ONE)] * 2,
        (entrances.UNRECORDED, ONE),
        ("tokens.create", OTHER_ONE),
    ]


def test_what_is_shown_is_short() -> None:
    named = caller({"client": ("10.0.0.1", 1), "headers": [(b"x-forwarded-for", b"fe80::1%" + b"e" * 999)]}, [])
    assert named == Caller("10.0.0.1", "10.0.0.1")
    scope = {"client": ("10.0.0.1", 1), "headers": [(b"x-forwarded-for", b"fe80::1%" + b"e" * 999)]}
    assert len(caller(scope, [ip_network("10.0.0.0/8")]).address) == 64
