"""Signing in through an OpenID provider: the way there and back, and who may come in."""

import base64
import hashlib
import html
import re
from typing import Any

import httpx2
import pytest
from sqlalchemy import select
from structlog.testing import capture_logs

from tests.api.asking import ADMIN, Api
from tests.api.openid_browser import NAME, START, configure, held, invited, query_of, signed_in, to_provider
from tests.api.openid_provider import CLIENT, REDIRECT, SECRET, Rogue, as_json
from tests.api.test_audit import all_rows, whole
from tests.api.test_device_login import PASSWORD, Browser, approved, path_of, polled, started
from tests.api.test_identity import bearer
from tests.api.test_tokens import given, refreshed, refused
from tidemill.model.admission import Admission
from tidemill.model.principal import Role
from tidemill.service import openid
from tidemill.store import schema


def accounts(api: Api) -> dict[str, Any]:
    """Rows by email."""
    rows = api.parts.database.read(lambda connection: connection.execute(select(schema.account)).all())
    return {row.email: row for row in rows}


def is_in(answer: httpx2.Response) -> bool:
    return answer.status_code == 200 and "<h1>Signed in</h1>" in answer.text


def test_no_button_where_none_is_configured(api: Api) -> None:
    browser = Browser(api)
    assert "oidc" not in browser.get("/login").text
    assert browser.get(START).status_code == 404
    assert browser.get(f"{START}/callback?state=x&code=y").status_code == 404


@pytest.mark.usefixtures("rogue")
class TestTheWay:
    def test_there_and_back(self, api: Api, rogue: Rogue) -> None:
        account = invited(api)
        browser = Browser(api)
        page = browser.get("/login").text
        assert f"Sign in with {html.escape(NAME)}" in page
        (href,) = re.findall(r'href="(/login/oidc[^"]*)"', page)
        sent = browser.get(html.unescape(href))
        query = query_of(sent.headers["location"])
        assert sent.headers["location"].startswith(f"{rogue.url}/authorize?")
        assert (query["client_id"], query["redirect_uri"]) == (CLIENT, REDIRECT)
        assert (query["response_type"], query["code_challenge_method"]) == ("code", "S256")
        assert query["scope"] == "openid email profile"
        assert len({query["state"], query["nonce"], query["code_challenge"]}) == 3
        back = browser.get(to_provider(sent))
        assert is_in(back)
        # a step of our own, with which Strict cookies go
        assert '<meta http-equiv="refresh" content="0; url=/device">' in back.text
        assert "ada@example.org" in browser.get("/login").text
        assert accounts(api)["ada@example.org"].id == account
        (exchange,) = [each for each in rogue.asked if each.path == "/token"]
        challenge = hashlib.sha256(exchange.form["code_verifier"].encode()).digest()
        assert base64.urlsafe_b64encode(challenge).decode().rstrip("=") == query["code_challenge"]
        assert exchange.headers["Authorization"].startswith("Basic ")

    def test_everything_of_a_sign_in_is_fresh(self, api: Api) -> None:
        seen = [query_of(Browser(api).get(START).headers["location"]) for _ in range(2)]
        for name in ("state", "nonce", "code_challenge"):
            assert seen[0][name] != seen[1][name]

    def test_the_cookie_of_the_way(self, api: Api) -> None:
        browser = Browser(api)
        browser.get(START)
        (line,) = [each for each in browser.set_cookies if each.startswith("tidemill_away")]
        assert {"HttpOnly", "SameSite=lax", "Path=/", "Max-Age=600"} <= set(line.split("; "))
        sent = browser.get(START)
        query = query_of(sent.headers["location"])
        for secret in (query["state"], query["nonce"]):
            assert secret not in browser.cookies["tidemill_away"]
        api.context = api.with_public_url("https://tide.example.org")
        browser = Browser(api)
        browser.get(START)
        (line,) = [each for each in browser.set_cookies if "away" in each]
        assert line.startswith("__Host-tidemill_away=")
        assert "Secure" in line

    def test_the_session_is_the_same_as_by_password(self, api: Api) -> None:
        invited(api)
        browser = Browser(api)
        signed_in(browser)
        (line,) = [each for each in browser.set_cookies if each.startswith("tidemill_session")]
        assert {"HttpOnly", "SameSite=strict", "Path=/", "Max-Age=43200"} <= set(line.split("; "))
        browser.get("/login")
        assert browser.post("/login/end").status_code == 303
        assert "Password" in browser.get("/login").text
        signed_in(browser)
        api.later(12 * 3600)
        assert "Password" in browser.get("/login").text

    def test_a_program_is_let_in_after_it(self, api: Api) -> None:
        invited(api)
        begun = started(api)
        browser, page = Browser(api), path_of(begun["verification_uri_complete"])
        (href,) = re.findall(r'href="(/login/oidc[^"]*)"', browser.get(page).text)
        back = browser.get(to_provider(browser.get(html.unescape(href))))
        assert f'url={page}"' in back.text
        assert "Approved" in browser.approve(page).text
        pair = given(polled(api, begun["device_code"]))
        assert api.get("/v0/jobs", headers=bearer(pair["access_token"])).status_code == 200

    @pytest.mark.parametrize(
        "wanted",
        [
            *("https://evil.example", "//evil.example", "/\\evil.example", "\\\\evil.example", "javascript:alert(1)"),
            *("/a\nb", "/a b", "/<script>", '/"', "device", "/\u00e9", "/" + "a" * 600),
        ],
    )
    def test_it_leads_to_no_other_site(self, api: Api, wanted: str) -> None:
        answer = api.get(START, params={"next": wanted}, headers={"Authorization": None})
        assert answer.status_code == 400
        assert "next" in answer.text
        assert "evil" not in answer.text

    def test_a_page_of_ours_that_was_wanted(self, api: Api) -> None:
        invited(api)
        back = signed_in(Browser(api), "/device?user_code=BCDF-GHJK%26x=1")
        assert 'url=/device?user_code=BCDF-GHJK&amp;x=1"' in back.text

    def test_a_public_client_has_no_secret(self, api: Api, rogue: Rogue) -> None:
        invited(api)
        rogue.secret = ""
        configure(api, rogue, secret="")
        assert is_in(signed_in(Browser(api)))
        (exchange,) = [each for each in rogue.asked if each.path == "/token"]
        assert "Authorization" not in exchange.headers
        assert "client_secret" not in exchange.form

    def test_a_provider_that_takes_no_basic(self, api: Api, rogue: Rogue) -> None:
        invited(api)
        rogue.says = {"token_endpoint_auth_methods_supported": ["client_secret_post"]}
        assert is_in(signed_in(Browser(api)))
        (exchange,) = [each for each in rogue.asked if each.path == "/token"]
        assert exchange.form["client_secret"] == SECRET

    def test_its_documents_are_asked_for_once(self, api: Api, rogue: Rogue) -> None:
        invited(api)
        for _ in range(3):
            assert is_in(signed_in(Browser(api)))
        assert [rogue.count(path) for path in ("/.well-known/openid-configuration", "/keys", "/token")] == [1, 1, 3]
        api.later(3600)
        assert is_in(signed_in(Browser(api)))
        assert [rogue.count(path) for path in ("/.well-known/openid-configuration", "/keys", "/token")] == [2, 2, 4]

    def test_no_secret_gets_anywhere(self, api: Api, rogue: Rogue) -> None:
        invited(api)
        browser = Browser(api)
        with capture_logs() as logs:
            sent = browser.get(START)
            cookie = browser.cookies["tidemill_away"]
            back = to_provider(sent)
            query = query_of(back)
            answer = browser.get(back)
            rogue.replies["/token"] = as_json({"error": "x"})
            failed = signed_in(Browser(api))
        assert is_in(answer)
        (exchange, _) = [each for each in rogue.asked if each.path == "/token"]
        secrets = [SECRET, cookie, query["code"], exchange.form["code_verifier"], "the access token"]
        for secret in secrets:
            assert secret not in repr(logs)
            assert secret not in answer.text + failed.text
            assert secret.encode() not in held(api)
        assert SECRET not in repr(api.parts)


@pytest.mark.usefixtures("rogue")
class TestTheAudit:
    def test_what_is_done_is_written_down_and_what_is_refused(self, api: Api, rogue: Rogue) -> None:
        assert signed_in(Browser(api)).status_code == 403
        account = invited(api)
        signed_in(Browser(api))
        configure(api, rogue, Admission(workspace="other"))
        rogue.person.update(sub="new", email="new@example.org")
        signed_in(Browser(api))
        new = accounts(api)["new@example.org"].id
        rows = [row for row in all_rows(api) if row.credential == openid.CREDENTIAL]
        assert [(row.workspace, row.action, row.resource, row.actor, row.outcome) for row in rows] == [
            ("main", "sessions.create", "login", "", "failed"),
            ("main", "users.link", f"users/{account}", account, "success"),
            ("main", "sessions.create", "login", account, "success"),
            ("other", "users.create", f"users/{new}", new, "success"),
            ("main", "sessions.create", "login", new, "success"),
        ]
        assert whole(api) == []


@pytest.mark.usefixtures("rogue")
class TestWhoMayComeIn:
    def test_nobody_whom_nobody_has_invited(self, api: Api) -> None:
        answer = signed_in(Browser(api))
        assert answer.status_code == 403
        assert "invited" in answer.text
        assert "ada@example.org" not in accounts(api)

    def test_who_was_invited_is_known_by_the_providers_name_from_then_on(self, api: Api, rogue: Rogue) -> None:
        account = invited(api, "Ada@Example.org")
        rogue.person["email"] = "ADA@example.org"
        assert is_in(signed_in(Browser(api)))
        row = accounts(api)["ada@example.org"]
        assert (row.id, row.issuer, row.subject) == (account, rogue.url, "ada-1")
        # she is who she was, whatever her address is now and whether anybody has verified it
        rogue.person.update(email="lovelace@example.org", email_verified=False)
        browser = Browser(api)
        assert is_in(signed_in(browser))
        assert "ada@example.org" in browser.get("/login").text
        assert "lovelace@example.org" not in accounts(api)

    def test_somebody_else_who_has_her_address_now_is_not_her(self, api: Api, rogue: Rogue) -> None:
        invited(api)
        signed_in(Browser(api))
        rogue.person["sub"] = "ada-2"
        answer = signed_in(Browser(api))
        assert answer.status_code == 403
        assert "somebody else" in answer.text
        assert accounts(api)["ada@example.org"].subject == "ada-1"

    def test_another_provider_takes_the_place_of_the_one_before(self, api: Api, rogue: Rogue) -> None:
        invited(api)
        signed_in(Browser(api))
        localhost = rogue.url.replace("127.0.0.1", "localhost")
        rogue.says, rogue.claims, rogue.person["sub"] = {"issuer": localhost}, {"iss": localhost}, "other-7"
        configure(api, rogue, issuer=localhost)
        assert is_in(signed_in(Browser(api)))
        row = accounts(api)["ada@example.org"]
        assert (row.issuer, row.subject) == (localhost, "other-7")

    @pytest.mark.parametrize("verified", [False, None, "true", 1, {}])
    def test_an_address_that_is_not_verified_is_none(self, api: Api, rogue: Rogue, verified: object) -> None:
        invited(api)
        rogue.person["email_verified"] = verified
        answer = signed_in(Browser(api))
        assert answer.status_code == 403
        assert "verified" in answer.text
        assert accounts(api)["ada@example.org"].subject == ""

    def test_unless_the_issuers_addresses_are_trusted(self, api: Api, rogue: Rogue) -> None:
        invited(api)
        rogue.person["email_verified"] = None
        configure(api, rogue, Admission(trusts_emails=True))
        assert is_in(signed_in(Browser(api)))

    @pytest.mark.parametrize("email", [None, "", "ada", "a@b@c", "a b@c", 7, ["ada@example.org"], "ada@\u0000"])
    def test_an_address_that_is_none(self, api: Api, rogue: Rogue, email: object) -> None:
        rogue.person["email"] = email
        configure(api, rogue, Admission(workspace="main"))
        before = set(accounts(api))
        assert signed_in(Browser(api)).status_code == 403
        assert set(accounts(api)) == before

    def test_userinfo_has_the_address_where_the_id_token_has_none(self, api: Api, rogue: Rogue) -> None:
        invited(api)
        rogue.person = {"sub": "ada-1"}
        rogue.userinfo = {"email": "ada@example.org", "email_verified": True}
        assert is_in(signed_in(Browser(api)))
        assert rogue.count("/userinfo") == 1

    def test_userinfo_has_the_claim_where_the_id_token_has_none(self, api: Api, rogue: Rogue) -> None:
        invited(api)
        configure(api, rogue, Admission(claim="groups", value="tide"))
        rogue.userinfo = {"groups": ["tide"]}
        assert is_in(signed_in(Browser(api)))

    def test_it_does_not_verify_the_address_of_the_id_token(self, api: Api, rogue: Rogue) -> None:
        """What it says is of its own address, which may be another one."""
        invited(api)
        configure(api, rogue, Admission(claim="groups", value="tide"))
        rogue.person["email_verified"] = None
        rogue.userinfo = {"groups": ["tide"], "email": "eve@example.org", "email_verified": True}
        assert signed_in(Browser(api)).status_code == 403
        assert accounts(api)["ada@example.org"].subject == ""

    def test_what_userinfo_says_of_somebody_else_is_nothing(self, api: Api, rogue: Rogue) -> None:
        invited(api)
        rogue.person = {"sub": "ada-1"}
        rogue.userinfo = {"sub": "eve", "email": "ada@example.org", "email_verified": True}
        assert signed_in(Browser(api)).status_code == 403
        assert accounts(api)["ada@example.org"].subject == ""

    def test_only_addresses_of_these_domains(self, api: Api, rogue: Rogue) -> None:
        configure(api, rogue, Admission(domains=("example.org", "example.com")))
        for email, status in [
            ("ada@example.org", 200),
            ("bob@example.com", 200),
            ("eve@evil-example.org", 403),
            ("eve@example.org.evil", 403),
            ("eve@sub.example.org", 403),
        ]:
            invited(api, email)
            rogue.person.update(email=email, sub=email)
            assert signed_in(Browser(api)).status_code == status, email
        # also somebody who came in before: whoever leaves the house has another address
        rogue.person.update(email="ada@gone.example", sub="ada@example.org")
        assert signed_in(Browser(api)).status_code == 403
        rogue.person.update(email="ada@example.org", email_verified=False)
        assert signed_in(Browser(api)).status_code == 403

    @pytest.mark.parametrize(
        ("groups", "status"),
        [
            (["x", "tide"], 200),
            ("tide", 200),
            (["tidy"], 403),
            ("tides", 403),
            (None, 403),
            ([], 403),
            ({"tide": 1}, 403),
        ],
    )
    def test_only_with_this_claim(self, api: Api, rogue: Rogue, groups: object, status: int) -> None:
        invited(api)
        configure(api, rogue, Admission(claim="groups", value="tide"))
        rogue.person["groups"] = groups
        assert signed_in(Browser(api)).status_code == status

    def test_new_people_get_an_account_where_that_is_wanted(self, api: Api, rogue: Rogue) -> None:
        configure(api, rogue, Admission(workspace="main", role=Role.MEMBER))
        rogue.person.update(given_name="Ada", family_name="Lovelace\n")
        assert is_in(signed_in(Browser(api)))
        (user,) = [each for each in api.get("/v0/users").json() if each["email"] == "ada@example.org"]
        assert (user["role"], user["accepted"], user["given_name"]) == ("member", True, "Ada")
        assert accounts(api)["ada@example.org"].family_name == ""
        # somebody whom an admin has taken out is not new
        api.delete("/v0/users/ada@example.org")
        assert is_in(signed_in(Browser(api)))
        assert "ada@example.org" not in [each["email"] for each in api.get("/v0/users").json()]

    def test_not_into_a_workspace_that_is_gone(self, api: Api, rogue: Rogue) -> None:
        configure(api, rogue, Admission(workspace="nowhere"))
        assert signed_in(Browser(api)).status_code == 403
        assert "ada@example.org" not in accounts(api)

    def test_what_an_account_had_before_ends_with_the_first_sign_in(self, api: Api) -> None:
        """Whoever knew the password until now need not be who the provider vouches for."""
        invited(api, password=PASSWORD)
        before = Browser(api)
        before.sign_in("ada@example.org")
        pair = given(polled(api, approved(api, "ada@example.org")["device_code"]))
        assert is_in(signed_in(Browser(api)))
        assert "Password" in before.get("/login").text
        assert Browser(api).sign_in("ada@example.org").status_code == 401
        refused(refreshed(api, pair["refresh_token"]), "invalid_grant", "refresh_token")
        # and not with the second: one's own key sets a new one
        browser = Browser(api)
        signed_in(browser)
        signed_in(Browser(api))
        assert "ada@example.org" in browser.get("/login").text

    def test_others_still_sign_in_with_their_passwords(self, api: Api) -> None:
        assert api.put("/v0/profile/password", {"new": PASSWORD}, headers=bearer(ADMIN)).status_code == 200
        assert Browser(api).sign_in("admin@main").status_code == 303
