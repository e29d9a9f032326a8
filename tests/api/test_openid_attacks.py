"""Whatever a provider answers and whatever a browser brings: a page that says what to do, and nobody comes in.

The provider trouble of a sign-in is 502, a refusal 4xx; why is in the log and nowhere else.
"""

import asyncio
import hashlib
import json
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import httpx2
import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from joserfc.jwk import ECKey, OKPKey, RSAKey
from structlog.testing import capture_logs

from tests.api.asking import Api
from tests.api.conftest import served
from tests.api.openid_browser import BACK, START, configure, invited, query_of, signed_in, to_provider
from tests.api.openid_provider import (
    CLIENT,
    OTHER,
    SECRET,
    SIGNS,
    Reply,
    Rogue,
    as_json,
    encoded,
    keyed,
    part,
    signed,
    signed_as_it_stands,
    unsigned,
)
from tests.api.test_device_login import Browser
from tidemill.oidc.asking import MOST_BYTES
from tidemill.service import openid


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory, migrated: Path, _provider: Rogue) -> Iterator[Api]:
    """One server for all tests, to which Ada is invited."""
    for api in served(tmp_path_factory.mktemp("house"), migrated):
        _provider.reset()
        configure(api, _provider)
        invited(api)
        yield api


@pytest.fixture(name="api")
def _api(house: Api, _provider: Rogue) -> Iterator[Api]:
    """An hour later: nothing is known of the provider any more, and nobody has tried anything lately."""
    house.later(3_600)
    parts, context = house.parts, house.context
    yield house
    house.parts, house.context = parts, context


@pytest.fixture(name="rogue", autouse=True)
def _rogue(api: Api, _provider: Rogue) -> Rogue:
    _provider.reset()
    _provider.now = lambda: api.now[0]
    return _provider


DOCUMENT: Final = "/.well-known/openid-configuration"
HTML: Final = Reply(200, b"<html><script>alert(1)</script>at line 7 of provider.py", {"Content-Type": "text/html"})
HUGE: Final = Reply(200, b'{"x": "' + b"x" * MOST_BYTES + b'"}')
DEEP: Final = Reply(200, b"[" * 100_000)
WEAK: Final = rsa.generate_private_key(public_exponent=65_537, key_size=1024).public_key().public_numbers()
CURVE: Final = ECKey.generate_key("P-256", {"kid": "first"})
EDWARDS: Final = OKPKey.generate_key("Ed25519", {"kid": "first"})


@dataclass(frozen=True, slots=True)
class Seen:
    """What the person was shown, and what the log says."""

    answer: httpx2.Response
    reasons: str


def tried(api: Api, browser: Browser | None = None) -> Seen:
    """Sign in, as far as it goes."""
    browser = browser or Browser(api)
    with capture_logs() as logs:
        answer = browser.get(START)
        if answer.status_code == 303:
            answer = browser.get(to_provider(answer))
    return Seen(answer, " ".join(str(each.get("reason", "")) for each in logs))


def kept_out(seen: Seen, status: int, reason: str) -> None:
    """Nobody is signed in, the page says nothing of why, and the log does."""
    answer = seen.answer
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"].startswith("text/html")
    assert answer.headers["content-security-policy"].startswith("default-src 'none'")
    assert "That did not work" in answer.text
    assert not any("tidemill_session" in line for line in answer.headers.get_list("set-cookie"))
    for word in ("Traceback", "Error", "provider.py", "text of the provider", "<script", "joserfc", "httpx"):
        assert word not in answer.text
    assert reason in seen.reasons
    assert SECRET not in seen.reasons


class TestProviderTrouble:
    @pytest.mark.parametrize("path", [DOCUMENT, "/token", "/keys", "/userinfo"])
    @pytest.mark.parametrize(
        ("reply", "reason"),
        [
            (Reply(500, b"Traceback (most recent call last)"), "status 500"),
            (Reply(503, b""), "status 503"),
            (HTML, "no JSON object"),
            (HUGE, "bytes"),
            (DEEP, "no JSON object"),
            (Reply(200, b""), "no JSON object"),
            (Reply(200, b"[]"), "no JSON object"),
            (Reply(200, b"null"), "no JSON object"),
            (Reply(200, b'{"x": "\xff"}'), "no JSON object"),
            (Reply(200, b"x", {"Content-Encoding": "gzip"}), "encoding"),
            (Reply(302, b"{}", {"Location": "http://127.0.0.1:1/"}), "status 302"),
            (Reply(307, b"{}", {"Location": "/other"}), "status 307"),
            (Reply(200, b"{}", {"Bad Name\x01": "x"}), "RemoteProtocolError"),
        ],
    )
    def test_an_answer_that_is_none(self, api: Api, rogue: Rogue, path: str, reply: Reply, reason: str) -> None:
        rogue.replies[path] = reply
        if path == "/userinfo":
            rogue.person = {"sub": "ada-1"}
        seen = tried(api)
        kept_out(seen, 502, reason)
        assert path in seen.reasons

    @pytest.mark.parametrize("path", [DOCUMENT, "/token", "/keys"])
    def test_it_is_not_there_any_more(self, api: Api, rogue: Rogue, path: str) -> None:
        rogue.replies[path] = Reply(404)
        if path == "/token":
            kept_out(tried(api), 403, "status 404")
        else:
            kept_out(tried(api), 502, "status 404")

    @pytest.mark.parametrize("path", [DOCUMENT, "/token", "/keys"])
    @pytest.mark.parametrize(
        "reply",
        [Reply(hangs=True), Reply(body=b'{"x": "' + b"x" * 500 + b'"}', trickles=True)],
        ids=["hangs", "trickles"],
    )
    def test_it_is_slow(self, api: Api, rogue: Rogue, path: str, reply: Reply) -> None:
        """Its bytes keep coming, and the whole would be well: the time for one answer is up before."""
        configure(api, rogue, timeout_s=0.5)
        if reply.trickles:
            right = {DOCUMENT: rogue.document(), "/keys": {"keys": rogue.keys}, "/token": {}}[path]
            reply = Reply(body=json.dumps(right).encode() + b" " * 500, trickles=True)
        rogue.replies[path] = reply
        kept_out(tried(api), 502, path)

    def test_it_cannot_be_reached(self, api: Api, rogue: Rogue) -> None:
        configure(api, rogue, issuer="http://127.0.0.1:1")
        kept_out(tried(api), 502, "ConnectError")
        # nothing of that is kept: it is asked again
        configure(api, rogue)
        assert tried(api).answer.status_code == 200

    def test_it_goes_away_while_the_browser_is_there(self, api: Api, rogue: Rogue) -> None:
        browser = Browser(api)
        back = to_provider(browser.get(START))
        rogue.replies["/token"] = Reply(hangs=True)
        configure(api, rogue, timeout_s=0.3)
        with capture_logs() as logs:
            answer = browser.get(back)
        kept_out(Seen(answer, repr(logs)), 502, "/token")

    @pytest.mark.parametrize(
        "says",
        [
            {"issuer": "https://evil.example"},
            {"issuer": None},
            {"issuer": 7},
            {"authorization_endpoint": None},
            {"authorization_endpoint": "http://evil.example/authorize"},
            {"authorization_endpoint": "javascript:alert(1)"},
            {"authorization_endpoint": "https://user:word@evil.example/"},
            {"authorization_endpoint": "https://evil.example/\r\nX: y"},
            {"authorization_endpoint": "https://[evil"},
            {"authorization_endpoint": "https://evil.example:port/"},
            {"authorization_endpoint": "https://evil.example/" + "x" * 3000},
            {"token_endpoint": "http://10.0.0.1/token"},
            {"token_endpoint": ["https://evil.example"]},
            {"token_endpoint": "file:///etc/passwd"},
            {"token_endpoint": "/token"},
            {"jwks_uri": ""},
            {"userinfo_endpoint": "ftp://evil.example"},
        ],
    )
    def test_a_document_that_is_not_its_own(self, api: Api, rogue: Rogue, says: dict[str, object]) -> None:
        rogue.says = says
        kept_out(tried(api), 502, DOCUMENT)

    def test_an_issuer_with_another_slash_is_another(self, api: Api, rogue: Rogue) -> None:
        configure(api, rogue, issuer=f"{rogue.url}/")
        kept_out(tried(api), 502, "another issuer")

    @pytest.mark.parametrize(
        "token",
        [{"id_token": None}, {"id_token": 7}, {"access_token": ["x"]}, {"access_token": "x" * 100_000}],
    )
    def test_no_token_in_the_answer(self, api: Api, rogue: Rogue, token: dict[str, object]) -> None:
        rogue.token = token
        kept_out(tried(api), 502, "/token")

    @pytest.mark.parametrize("keys", [None, {}, "x", 7])
    def test_no_keys(self, api: Api, rogue: Rogue, keys: object) -> None:
        rogue.replies["/keys"] = as_json({"keys": keys})
        kept_out(tried(api), 502, "no set of keys")

    def test_a_wrong_secret_of_ours(self, api: Api, rogue: Rogue) -> None:
        configure(api, rogue, secret="wrong")
        kept_out(tried(api), 502, "invalid_client")

    def test_a_slow_one_holds_up_nobody_else(self, api: Api) -> None:
        """All threads for the provider are taken, and as many wait as may."""

        async def work(client: httpx2.AsyncClient) -> list[int]:
            limiter, holders = api.context.at_provider, [object() for _ in range(4)]
            for each in holders:
                limiter.acquire_on_behalf_of_nowait(each)
            waiting = [asyncio.create_task(client.get(START)) for _ in range(64)]
            while limiter.statistics().tasks_waiting < len(waiting):
                assert (await client.get("/login")).status_code == 200
            others = [await client.get(path) for path in ("/login", "/v0/openapi.json", START)]
            for each in holders:
                limiter.release_on_behalf_of(each)
            assert {(await each).status_code for each in waiting} == {303}
            return [each.status_code for each in others]

        assert api.session(work) == [200, 200, 503]


def claims_that_are_wrong(now: float) -> dict[str, dict[str, object]]:
    return {
        "issuer": {"iss": "https://evil.example"},
        "no issuer": {"iss": None},
        "issuers": {"iss": ["https://evil.example"]},
        "audience": {"aud": "another"},
        "no audience": {"aud": None},
        "audiences": {"aud": ["another", "and another"]},
        "audience of another kind": {"aud": {"tidemill": 1}},
        "several audiences": {"aud": [CLIENT, "another"]},
        "another's several audiences": {"aud": [CLIENT, "another"], "azp": "another"},
        "party": {"azp": "another"},
        "party of another kind": {"azp": [CLIENT]},
        "expired": {"exp": now - 61},
        "no end": {"exp": None},
        "end of another kind": {"exp": "tomorrow"},
        "end at infinity": {"exp": True},
        "issued tomorrow": {"iat": now + 86_400},
        "issued never": {"iat": None},
        "not yet good": {"nbf": now + 3_600},
        "nonce": {"nonce": "of another sign-in"},
        "no nonce": {"nonce": None},
        "nonce of another kind": {"nonce": 7},
        "nonces": {"nonce": "\u00e9"},
        "subject": {"sub": ""},
        "no subject": {"sub": None},
        "subject of another kind": {"sub": 7},
        "subject that is no text": {"sub": "\ud800"},
        "subject that is not ASCII": {"sub": "\u00e9"},
        "subject too long": {"sub": "x" * 256},
        "hash": {"at_hash": "AAAAAAAAAAAAAAAAAAAAAA"},
        "hash of another kind": {"at_hash": 7},
    }


class TestIdTokens:
    @pytest.mark.parametrize("what", claims_that_are_wrong(0))
    def test_claims_that_are_wrong(self, api: Api, rogue: Rogue, what: str) -> None:
        rogue.claims = claims_that_are_wrong(api.now[0].timestamp())[what]
        kept_out(tried(api), 403, "ID token: ")

    @pytest.mark.parametrize(
        "claims",
        [
            {"aud": [CLIENT]},
            {"aud": [CLIENT, "another"], "azp": CLIENT},
            {"azp": CLIENT},
            {"at_hash": "Dk6e0Zi6UEDgBXvpHKbnAQ"},
        ],
    )
    def test_claims_that_are_right(self, api: Api, rogue: Rogue, claims: dict[str, object]) -> None:
        if "at_hash" in claims:
            claims = {"at_hash": half_digest("the access token")}
        rogue.claims = claims
        assert tried(api).answer.status_code == 200

    def test_clocks_may_differ_by_a_minute(self, api: Api, rogue: Rogue) -> None:
        now = api.now[0].timestamp()
        rogue.claims = {"iat": now + 59, "exp": now - 59}
        assert tried(api).answer.status_code == 200

    @pytest.mark.parametrize(
        "sign",
        [
            unsigned,
            keyed(SECRET.encode()),
            keyed(SIGNS.as_pem(private=False)),
            keyed(b""),
            lambda rogue, header, members: signed(rogue, header, members)[:-4] + "AAAA",
            lambda rogue, header, members: changed(signed(rogue, header, members)),
            lambda rogue, header, members: signed(rogue, header, members).rpartition(".")[0] + ".",
        ],
    )
    def test_signatures_that_are_none(
        self, api: Api, rogue: Rogue, sign: Callable[[Rogue, dict[str, Any], dict[str, Any]], str]
    ) -> None:
        rogue.sign = sign
        kept_out(tried(api), 403, "ID token: ")

    @pytest.mark.parametrize(
        "header",
        [
            part([]),
            part("alg"),
            part({}),
            encoded(b"[" * 5_000),
            encoded(b"\xff"),
            "\u00e9",
            "=",
            "",
            "x" * 70_000,
            part({"alg": ["RS256"]}),
            part({"alg": {}}),
            part({"alg": "RS256", "kid": 7}),
            part({"alg": "RS256", "kid": "first", "b64": False, "crit": ["b64"]}),
            part({"alg": "RS256", "kid": "first", "crit": ["exp"]}),
        ],
    )
    def test_headers_that_are_none(self, api: Api, rogue: Rogue, header: str) -> None:
        rogue.token = {"id_token": f"{header}.{part({})}.AAAA"}
        kept_out(tried(api), 403, "ID token: ")

    @pytest.mark.parametrize("more", [{"crit": ["exp"]}, {"b64": True, "crit": ["b64"]}, {"b64": False}])
    def test_headers_that_change_how_a_token_is_read(self, api: Api, rogue: Rogue, more: dict[str, object]) -> None:
        """The signature is right: what such a header says is to be understood or refused."""
        rogue.header, rogue.sign = more, signed_as_it_stands
        kept_out(tried(api), 403, "a header that is not taken")
        rogue.header = {"unknown": "x"}
        assert tried(api).answer.status_code == 200

    @pytest.mark.parametrize("token", ["", ".", "..", "a.b", "a.b.c.d.e", "x"])
    def test_tokens_that_are_none(self, api: Api, rogue: Rogue, token: str) -> None:
        rogue.token = {"id_token": token}
        kept_out(tried(api), 403, "ID token: ")

    def test_a_token_that_is_no_object(self, api: Api, rogue: Rogue) -> None:
        rogue.sign = lambda rogue, header, _: signed(rogue, header, [1])  # type: ignore[arg-type]  # that is the point
        kept_out(tried(api), 403, "ID token: ")

    def test_a_key_that_is_not_the_providers(self, api: Api, rogue: Rogue) -> None:
        rogue.key = OTHER
        kept_out(tried(api), 403, "bad_signature")

    def test_a_key_that_the_token_brings_along(self, api: Api, rogue: Rogue) -> None:
        rogue.key = OTHER
        rogue.header = {"jwk": OTHER.as_dict(private=False), "jku": f"{rogue.url}/other"}
        kept_out(tried(api), 403, "bad_signature")
        assert rogue.count("/other") == 0

    def test_a_key_of_another_purpose_kind_or_length_is_none(self, api: Api, rogue: Rogue) -> None:
        public = SIGNS.as_dict(private=False)
        for keys in (
            [{**public, "use": "enc"}],
            [{**public, "alg": "PS256"}],
            [CURVE.as_dict(private=False)],
            [{"kty": "oct", "k": encoded(SECRET.encode()), "kid": "first"}],
            [{**public, "n": "AQAB"}],
            [
                {**public, "n": 7},
                {"kty": "RSA"},
                {"kty": ["RSA"]},
                7,
                None,
                {"kty": "RSA", "n": "", "e": "", "kid": "first"},
            ],
            [],
        ):
            rogue.keys = keys  # type: ignore[assignment]  # some are none
            configure(api, rogue)
            kept_out(tried(api), 403, "kid: ")

    def test_a_key_that_is_too_short_is_none(self, api: Api, rogue: Rogue) -> None:
        modulus = encoded(WEAK.n.to_bytes(128, "big"))
        rogue.keys = [{"kty": "RSA", "kid": "first", "n": modulus, "e": "AQAB"}]
        kept_out(tried(api), 403, "kid: ")

    @pytest.mark.parametrize(("key", "algorithm"), [(CURVE, "ES256"), (EDWARDS, "Ed25519"), (SIGNS, "PS512")])
    def test_other_algorithms_with_two_keys(
        self, api: Api, rogue: Rogue, key: RSAKey | ECKey | OKPKey, algorithm: str
    ) -> None:
        rogue.key, rogue.header = key, {"alg": algorithm}
        rogue.keys = [{"kty": "new", "kid": "first"}, key.as_dict(private=False)]
        assert tried(api).answer.status_code == 200

    def test_the_older_name_of_an_algorithm(self, api: Api, rogue: Rogue) -> None:
        """EdDSA, which RFC 9864 split in two: providers will send it for years."""

        def sign(_: Rogue, header: dict[str, Any], members: dict[str, Any]) -> str:
            key = EDWARDS.get_op_key("sign")
            assert isinstance(key, Ed25519PrivateKey)
            text = f"{part({**header, 'alg': 'EdDSA'})}.{part(members)}"
            return f"{text}.{encoded(key.sign(text.encode()))}"

        rogue.keys, rogue.sign = [EDWARDS.as_dict(private=False)], sign
        assert tried(api).answer.status_code == 200

    def test_a_token_that_names_no_key(self, api: Api, rogue: Rogue) -> None:
        rogue.header = {"kid": None}
        rogue.keys = [*rogue.keys, {**OTHER.as_dict(private=False), "kid": "second"}]
        kept_out(tried(api), 403, "several keys")
        rogue.keys = [SIGNS.as_dict(private=False), CURVE.as_dict(private=False)]
        configure(api, rogue)
        assert tried(api).answer.status_code == 200

    def test_a_new_key_is_asked_for_once_a_minute(self, api: Api, rogue: Rogue) -> None:
        """The provider has rotated its keys, or somebody makes up names of keys."""
        assert tried(api).answer.status_code == 200
        renamed = {**SIGNS.as_dict(private=False), "kid": "second"}
        rogue.keys, rogue.header = [renamed], {"kid": "second"}
        seen = [tried(api).answer.status_code for _ in range(3)]
        assert (seen, rogue.count("/keys")) == ([403] * 3, 1)
        api.later(60)
        assert tried(api).answer.status_code == 200
        assert rogue.count("/keys") == 2
        rogue.header = {"kid": "made up"}
        seen = [tried(api).answer.status_code for _ in range(3)]
        assert (seen, rogue.count("/keys")) == ([403] * 3, 2)

    def test_whatever_a_signed_token_says(self, api: Api, rogue: Rogue) -> None:
        odd = st.one_of(
            st.none(),
            st.booleans(),
            st.integers(),
            st.floats(),
            st.text(max_size=8),
            st.just([CLIENT, {}]),
            st.just({}),
        )
        names = st.sampled_from(["iss", "aud", "azp", "exp", "iat", "nbf", "nonce", "sub", "at_hash", "email", "jti"])

        @settings(max_examples=30, deadline=None, suppress_health_check=list(HealthCheck))
        @given(st.dictionaries(names, odd, min_size=1, max_size=3))
        def said(claims: dict[str, object]) -> None:
            rogue.claims = claims
            # an address counts for nothing once she is known, and what is left out may be left out
            assert tried(api).answer.status_code in {200, 403}
            api.later(600)

        said()


class TestTheBrowser:
    def test_without_the_cookie_it_began_with(self, api: Api, rogue: Rogue) -> None:
        browser = Browser(api)
        back = to_provider(browser.get(START))
        other = Browser(api)
        kept_out(asked(other, back), 403, "another browser")
        # one that has begun a sign-in of its own has another state
        other.get(START)
        kept_out(asked(other, back), 403, "another browser")
        assert rogue.count("/token") == 0
        # which is its own all the same, whatever somebody made it ask for
        assert "tidemill_away" not in " ".join(other.set_cookies)
        assert browser.get(back).status_code == 200

    @pytest.mark.parametrize("state", ["", "x", "\u00e9", "A" * 43, "x" * 9_000])
    def test_a_state_that_is_none(self, api: Api, rogue: Rogue, state: str) -> None:
        browser = Browser(api)
        code = query_of(to_provider(browser.get(START)))["code"]
        answer = api.get(BACK, params={"state": state, "code": code}, headers=browser.headers())
        assert answer.status_code == 403
        assert "begin again" in answer.text
        assert rogue.count("/token") == 0

    @pytest.mark.parametrize("cookie", ["", "x", "v1.x.y", "v1..", "a.b.c", "v1.none.AAAA"])
    def test_a_cookie_that_is_none(self, api: Api, rogue: Rogue, cookie: str) -> None:
        browser = Browser(api)
        back = to_provider(browser.get(START))
        browser.cookies["tidemill_away"] = cookie
        kept_out(asked(browser, back), 403, "another browser")
        assert rogue.count("/token") == 0

    def test_a_cookie_that_was_changed(self, api: Api) -> None:
        browser = Browser(api)
        back = to_provider(browser.get(START))
        right = browser.cookies["tidemill_away"]
        for at in range(5, len(right), 7):
            browser.cookies["tidemill_away"] = right[:at] + ("A" if right[at] != "A" else "B") + right[at + 1 :]
            assert browser.get(back).status_code == 403

    def test_an_envelope_of_something_else_is_no_cookie(self, api: Api) -> None:
        browser = Browser(api)
        query = query_of(browser.get(START).headers["location"])
        away = {"state": query["state"], "nonce": "n", "verifier": "v" * 43, "wanted": "", "until": 9e12}
        browser.cookies["tidemill_away"] = api.parts.keyring.seal(json.dumps(away), "something else")
        assert browser.get(f"{BACK}?state={query['state']}&code=x").status_code == 403

    def test_too_late(self, api: Api) -> None:
        browser = Browser(api)
        back = to_provider(browser.get(START))
        api.later(openid.LASTS.total_seconds())
        kept_out(asked(browser, back), 403, "too old")

    def test_a_second_time(self, api: Api, rogue: Rogue) -> None:
        """The browser has sent it twice, or somebody who has its cookie does: the provider is not even asked."""
        browser = Browser(api)
        back = to_provider(browser.get(START))
        cookies = dict(browser.cookies)
        assert browser.get(back).status_code == 200
        assert browser.cookies["tidemill_away"] == ""
        assert browser.get(back).status_code == 403
        again = asked(Browser(api, cookies=cookies), back)
        assert again.answer.status_code == 403
        assert "state used before" in again.reasons
        assert rogue.count("/token") == 1

    def test_a_second_time_after_it_has_failed(self, api: Api, rogue: Rogue) -> None:
        browser = Browser(api)
        back = to_provider(browser.get(START))
        cookies = dict(browser.cookies)
        rogue.replies["/token"] = Reply(500)
        assert browser.get(back).status_code == 502
        del rogue.replies["/token"]
        assert Browser(api, cookies=cookies).get(back).status_code == 403

    def test_a_code_that_was_used(self, api: Api, rogue: Rogue) -> None:
        """In a sign-in of another browser, which is all that is right of it."""
        first, second = Browser(api), Browser(api)
        code = query_of(to_provider(first.get(START)))["code"]
        rogue.brings = {"code": code}
        assert first.get(f"{BACK}?code={code}&state={next(iter(rogue.codes.values()))['state']}").status_code == 200
        seen = asked(second, to_provider(second.get(START)))
        assert seen.answer.status_code == 403
        assert "invalid_grant" in seen.reasons

    def test_a_code_of_another_sign_in(self, api: Api, rogue: Rogue) -> None:
        """It was stolen before it was used: PKCE keeps it from being good here."""
        victim, thief = Browser(api), Browser(api)
        code = query_of(to_provider(victim.get(START)))["code"]
        rogue.brings = {"code": code}
        kept_out(asked(thief, to_provider(thief.get(START))), 403, "invalid_grant")

    @pytest.mark.parametrize("code", [None, "", "\u00e9", "x" * 5_000])
    def test_a_code_that_is_none(self, api: Api, rogue: Rogue, code: str | None) -> None:
        browser = Browser(api)
        state = query_of(browser.get(START).headers["location"])["state"]
        params = {"state": state} | ({} if code is None else {"code": code})
        answer = api.get(BACK, params=params, headers=browser.headers())
        assert answer.status_code == 400
        assert "code" in answer.text
        assert rogue.count("/token") == 0

    @pytest.mark.parametrize(
        ("brings", "status", "reason"),
        [
            ({"error": "access_denied", "code": ""}, 403, "access_denied"),
            ({"error": "login_required"}, 403, "login_required"),
            ({"error": "server_error", "code": ""}, 502, "server_error"),
            ({"error": "temporarily_unavailable"}, 502, "temporarily_unavailable"),
            ({"error": "<script>alert(1)</script>"}, 502, "script"),
            ({"error": "x", "error_description": "<b>text of the provider</b>"}, 502, "says"),
            ({"iss": "https://evil.example"}, 403, "another provider"),
            ({"iss": "https://evil.example", "error": "access_denied"}, 403, "another provider"),
        ],
    )
    def test_what_the_provider_says_instead(
        self, api: Api, rogue: Rogue, brings: dict[str, str], status: int, reason: str
    ) -> None:
        rogue.brings = brings
        kept_out(tried(api), status, reason)
        assert rogue.count("/token") == 0

    def test_a_provider_that_names_itself_must(self, api: Api, rogue: Rogue) -> None:
        rogue.says = {"authorization_response_iss_parameter_supported": True}
        kept_out(tried(api), 403, "another provider")
        rogue.brings = {"iss": rogue.url}
        assert tried(api).answer.status_code == 200

    @pytest.mark.parametrize("name", ["state", "code", "iss", "error"])
    def test_nothing_is_there_twice(self, api: Api, rogue: Rogue, name: str) -> None:
        browser = Browser(api)
        back = to_provider(browser.get(START))
        answer = browser.get(f"{back}&{name}=x&{name}=y")
        assert answer.status_code == 400
        assert name in answer.text
        assert rogue.count("/token") == 0
        assert browser.get(f"{START}?next=/device&next=//evil.example").status_code == 400

    def test_an_address_cannot_finish_without_end(self, api: Api, rogue: Rogue) -> None:
        rogue.person["email_verified"] = False
        rogue.sign = unsigned
        for _ in range(openid.FINISHES_FROM_ONE):
            assert signed_in(Browser(api)).status_code == 403
        assert signed_in(Browser(api)).status_code == 429
        assert rogue.count("/token") == openid.FINISHES_FROM_ONE

    def test_whatever_a_browser_brings(self, api: Api) -> None:
        text = st.text(max_size=20)

        @settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
        @given(st.dictionaries(st.sampled_from(["state", "code", "iss", "error", "next"]), text, max_size=4), text)
        def brought(query: Mapping[str, str], cookie: str) -> None:
            browser = Browser(api)
            browser.get(START)
            shown = re.sub(r"[\x00-\x1f]", "", f"tidemill_away={cookie}").encode()
            for headers in (browser.headers(), {**browser.headers(), "Cookie": shown}):
                answer = api.get(BACK, params=query, headers=headers)
                assert answer.status_code in {400, 403}, answer.text
                assert api.get(START, params=query, headers=headers).status_code in {303, 400}

        brought()


def asked(browser: Browser, path: str) -> Seen:
    with capture_logs() as logs:
        answer = browser.get(path)
    return Seen(answer, " ".join(str(each.get("reason", "")) for each in logs))


def changed(token: str) -> str:
    """The same signature below another payload."""
    head, _, tail = token.split(".")
    return f"{head}.{part({'sub': 'eve', 'email': 'ada@example.org'})}.{tail}"


def half_digest(text: str) -> str:

    return encoded(hashlib.sha256(text.encode()).digest()[:16])
