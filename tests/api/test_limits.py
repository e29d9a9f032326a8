"""How many requests one client may send: the limits before the routes, with a clock that the test moves."""

from collections.abc import Callable
from dataclasses import replace
from ipaddress import ip_network
from typing import Any

import httpx2
import pytest

from tests.api.asking import ADMIN, MEMBER, Api
from tests.api.test_access import NONE, assert_problem
from tidemill.api.app import Edge
from tidemill.api.limits import NEVER_COUNTED, Meter, Rates, client

WRONG = {"Authorization": "Bearer tm_wrong"}
Bounded = Callable[..., list[float]]


@pytest.fixture
def bounded(api: Api) -> Bounded:
    """Serves with these rates from now on; the clock is the only element of what it returns."""

    def serve(**rates: Any) -> list[float]:
        clock = [1_000.0]
        api.edge, api.served = Edge(rates=Rates(**rates), clock=lambda: clock[0]), None
        return clock

    return serve


def statuses(api: Api, count: int, path: str = "/v0/jobs", **options: Any) -> list[int]:
    return [api.get(path, **options).status_code for _ in range(count)]


@pytest.mark.parametrize(
    ("path", "headers", "status"),
    [
        pytest.param("/v0/jobs", NONE, 401, id="no credential"),
        pytest.param("/v0/jobs", WRONG, 401, id="a bad credential"),
        pytest.param("/v0/openapi.json", NONE, 200, id="a public route"),
        pytest.param("/v0/openapi.json", WRONG, 200, id="a public route and a bad credential"),
        pytest.param("/wp-login.php", NONE, 404, id="no route at all"),
        pytest.param("/v0/workspaces", {**NONE, "X-HTTP-Method-Override": "x"}, 401, id="an odd header"),
    ],
)
def test_twenty_a_second_without_a_credential_then_429(
    api: Api, bounded: Bounded, path: str, headers: dict[str, Any], status: int
) -> None:
    clock = bounded()
    assert statuses(api, 21, path, headers=headers) == [status] * 20 + [429]

    answer = api.get(path, headers=headers)
    assert "without a good credential" in assert_problem(answer, 429, "RATE_LIMITED")
    assert answer.headers["retry-after"] == "1"
    assert answer.headers["x-should-retry"] == "true"
    clock[0] += 0.1
    assert statuses(api, 3, path, headers=headers) == [status] * 2 + [429]
    clock[0] += 60
    assert statuses(api, 21, path, headers=headers) == [status] * 20 + [429]


def test_a_token_that_is_given_counts_no_more_than_a_good_credential_and_a_refused_one_does(
    api: Api, bounded: Bounded
) -> None:
    bounded()
    made = api.post("/v0/service_accounts", {"name": "ci"}).json()
    good = {"grant_type": "client_credentials", "client_id": made["client_id"], "client_secret": made["client_secret"]}
    asked = [api.post("/v0/oauth/token", good, headers=NONE).status_code for _ in range(25)]
    assert asked == [200] * 25
    bad = {**good, "client_secret": "tms_wrong"}
    asked = [api.post("/v0/oauth/token", bad, headers=NONE).status_code for _ in range(21)]
    assert asked == [400] * 20 + [429]


def test_a_wrong_method_is_no_proof_of_a_credential(api: Api, bounded: Bounded) -> None:
    bounded()
    assert [api.request("PATCH", "/v0/jobs", headers=WRONG).status_code for _ in range(21)] == [405] * 20 + [429]
    assert statuses(api, 1, headers=WRONG) == [429]


def test_a_good_credential_has_no_limit_unless_set(api: Api, bounded: Bounded) -> None:
    bounded()
    assert statuses(api, 60) == [200] * 60


def test_a_flood_does_not_lock_out_a_known_credential_of_the_same_address(api: Api, bounded: Bounded) -> None:
    clock = bounded()
    assert statuses(api, 1) == [200]
    assert statuses(api, 25, headers=NONE)[-1] == 429

    assert statuses(api, 30) == [200] * 30
    # one that nobody has seen waits its turn, which comes with the next free place of the address
    member = {"Authorization": f"Bearer {MEMBER}"}
    assert statuses(api, 1, headers=member) == [429]
    clock[0] += 0.05
    assert statuses(api, 30, headers=member) == [200] * 30


def test_what_is_refused_to_a_good_credential_does_not_count(api: Api, bounded: Bounded) -> None:
    bounded()
    assert statuses(api, 30, headers={"X-Blaxel-Workspace": "other"}) == [403] * 30
    assert statuses(api, 30, "/v0/jobs/missing") == [404] * 30
    assert statuses(api, 30, headers={"Blaxel-Version": "1999-01-01"}) == [400] * 30


def test_a_credential_that_is_withdrawn_counts_from_then_on(api: Api, bounded: Bounded) -> None:
    bounded(unauthenticated_per_s=2)
    assert statuses(api, 3) == [200] * 3
    api.parts = replace(api.parts, keyring=type(api.parts.keyring).generate())  # no key is good any more
    edge = api.edge
    transport = api.transport()
    # the same gate, so the same memory, before an application that knows no key
    transport.app.state.context = replace(api.context, parts=api.parts)  # type: ignore[attr-defined]
    assert api.edge is edge
    assert statuses(api, 4) == [401, 401, 429, 429]


@pytest.mark.parametrize("path", sorted(NEVER_COUNTED))
def test_who_watches_the_server_is_never_refused(api: Api, bounded: Bounded, path: str) -> None:
    bounded(unauthenticated_per_s=1)
    assert statuses(api, 3, headers=NONE) == [401, 429, 429]
    assert statuses(api, 30, path, headers=NONE) == [200] * 30


def test_a_setting_bounds_each_credential(api: Api, bounded: Bounded) -> None:
    clock = bounded(authenticated_per_s=5)
    assert statuses(api, 7) == [200] * 5 + [429] * 2
    assert "with this credential" in assert_problem(api.get("/v0/jobs"), 429, "RATE_LIMITED")
    assert statuses(api, 1, headers={"Authorization": f"Bearer {MEMBER}"}) == [200]
    assert statuses(api, 1, headers={"X-Blaxel-Authorization": f"Bearer {MEMBER}"}) == [200]  # the admin's comes along
    clock[0] += 1
    assert statuses(api, 6) == [200] * 5 + [429]


def test_requests_that_run_at_the_same_time_are_paid_for_afterwards() -> None:
    meter = Meter(2)
    for _ in range(10):  # all had begun before one of them ended
        meter.count(b"a", 0)
    assert meter.wait_s(b"a", 0) == pytest.approx(4.5)
    assert meter.wait_s(b"b", 0) == 0


def test_a_rate_below_one_a_second_lets_one_through() -> None:
    meter = Meter(0.1)
    assert meter.wait_s(b"a", 0) == 0
    meter.count(b"a", 0)
    assert meter.wait_s(b"a", 4) == pytest.approx(6)


def test_memory_is_bounded_and_the_latest_are_kept() -> None:
    meter = Meter(1, most=3)
    for second, key in enumerate([b"a", b"b", b"c", b"a", b"d"]):
        meter.count(key, second)
    assert len(meter) == 3
    assert [key in meter for key in (b"a", b"b", b"c", b"d")] == [True, False, True, True]


PROXIES = (ip_network("10.0.0.0/8"), ip_network("fd00::/8"))


@pytest.mark.parametrize(
    ("peer", "forwarded", "counted"),
    [
        ("192.0.2.1", ["198.51.100.7"], "192.0.2.1"),  # nobody trusts the peer
        ("10.0.0.1", ["198.51.100.7"], "198.51.100.7"),
        ("10.0.0.1", ["198.51.100.7, 10.0.0.2"], "198.51.100.7"),
        ("10.0.0.1", ["198.51.100.7", "10.0.0.2"], "198.51.100.7"),
        ("10.0.0.1", ["1.1.1.1, 198.51.100.7"], "198.51.100.7"),  # what the client wrote itself
        ("10.0.0.1", ["1.1.1.1, nonsense"], "10.0.0.1"),
        ("10.0.0.1", [], "10.0.0.1"),
        ("10.0.0.1", ["10.0.0.3, 10.0.0.2"], "10.0.0.3"),
        ("::ffff:10.0.0.1", ["198.51.100.7"], "198.51.100.7"),
        ("fd00::1", ["198.51.100.7"], "198.51.100.7"),
        ("not an address", ["198.51.100.7"], "not an address"),
    ],
)
def test_only_trusted_proxies_speak_for_others(peer: str, forwarded: list[str], counted: str) -> None:
    headers = [(b"x-forwarded-for", text.encode()) for text in forwarded]
    assert client({"client": (peer, 1), "headers": headers}, PROXIES) == counted.encode()


def test_without_proxies_the_header_is_nobodys_word() -> None:
    headers = [(b"x-forwarded-for", b"198.51.100.7")]
    assert client({"client": ("127.0.0.1", 1), "headers": headers}, ()) == b"127.0.0.1"
    assert client({"client": None, "headers": headers}, ()) == b""


def test_the_addresses_of_one_ipv6_site_are_one_client() -> None:
    one, same, other = (
        client({"client": (address, 1), "headers": []}, ())
        for address in ("2001:db8:0:1::1", "2001:db8:0:1:ffff::2", "2001:db8:0:2::1")
    )
    assert one == same != other
    assert client({"client": ("::ffff:192.0.2.1", 1), "headers": []}, ()) == b"192.0.2.1"


def test_addresses_are_counted_apart(api: Api, bounded: Bounded) -> None:
    bounded(unauthenticated_per_s=1, trusted_proxies=(ip_network("127.0.0.0/8"),))
    for address in ("198.51.100.1", "198.51.100.2"):
        headers = {**NONE, "X-Forwarded-For": address}
        assert statuses(api, 2, headers=headers) == [401, 429], address


def test_an_answer_that_fails_counts_as_well(api: Api, bounded: Bounded) -> None:
    bounded(unauthenticated_per_s=1)

    async def cut(sending: httpx2.AsyncClient) -> list[int]:
        return [(await sending.put("/uploads/nothing", content=b"x")).status_code for _ in range(2)]

    assert api.session(cut) == [404, 429]


def test_no_credential_is_kept(api: Api, bounded: Bounded) -> None:
    bounded()
    statuses(api, 1)
    layer = api.transport().app.middleware_stack  # type: ignore[attr-defined]
    seen = []
    while layer is not None:
        seen.append(repr(vars(layer)))
        seen += [repr(list(each._paid_at)) for each in vars(layer).values() if isinstance(each, Meter)]
        layer = getattr(layer, "app", None) or getattr(layer, "_app", None)
    assert any("Gate" in text or "_credentials" in text for text in seen)
    assert not [text for text in seen if ADMIN in text]
