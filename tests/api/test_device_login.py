"""The device flow, as the official command line goes through it and a browser answers it; passwords and sessions."""

import html
import re
import sys
from dataclasses import dataclass, field
from typing import Any, Final

import httpx2
import pytest
from structlog.testing import capture_logs

from tests.api.asking import ADMIN, Api
from tests.api.test_access import assert_problem
from tests.api.test_identity import bearer
from tests.api.test_tokens import NOBODY, TOKEN, claims, given, program, refreshed, refused, token
from tidemill import passwords
from tidemill.model.principal import Role
from tidemill.service import device_flow, guesses, sign_in
from tidemill.store import device_codes, schema
from tidemill.store import tokens as stored
from tidemill.store.database import Connection
from tidemill.store.device_codes import DeviceCode

PASSWORD: Final = "correct horse battery"
OTHER: Final = "staple staple staple"
START: Final = "/v0/login/device"
OWN: Final = "/v0/profile/password"
DEVICE: Final = "urn:ietf:params:oauth:grant-type:device_code"
# what the official command line sends (contract 2.4)
ASKED: Final = {"client_id": "blaxel", "scope": "offline_access"}


@pytest.fixture
def person(api: Api) -> str:
    """Somebody who can sign in, a member of main."""
    made = api.post("/v0/users", {"email": "Ada@example.org", "password": PASSWORD})
    assert made.status_code == 200, made.text
    assert made.json()["accepted"] is True
    return "ada@example.org"


def started(api: Api, **more: str) -> dict[str, Any]:
    answer = api.post(START, {**ASKED, **more}, headers=NOBODY)
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


def polled(api: Api, code: str, **more: str) -> httpx2.Response:
    body = {"grant_type": DEVICE, "client_id": "blaxel", "device_code": code, **more}
    return api.post(TOKEN, body, headers=NOBODY)


@dataclass
class Browser:
    """Keeps cookies and the fields of the form that it was shown last, as a browser does."""

    api: Api
    cookies: dict[str, str] = field(default_factory=dict)
    hidden: dict[str, str] = field(default_factory=dict)
    set_cookies: list[str] = field(default_factory=list)

    def get(self, path: str) -> httpx2.Response:
        return self.seen(self.api.get(path, headers=self.headers()))

    def post(self, path: str, **fields: str) -> httpx2.Response:
        answer = self.api.request("POST", path, data={**self.hidden, **fields}, headers=self.headers())
        return self.seen(answer)

    def headers(self) -> dict[str, str | None]:
        cookies = "; ".join(f"{name}={value}" for name, value in self.cookies.items())
        return {"Authorization": None, "Blaxel-Version": None, "Cookie": cookies or None}

    def seen(self, answer: httpx2.Response) -> httpx2.Response:
        self.set_cookies = answer.headers.get_list("set-cookie")
        for line in self.set_cookies:
            name, _, value = line.partition(";")[0].partition("=")
            self.cookies[name] = value.strip('"')
        if answer.status_code != 303:
            found = re.findall(r'type="hidden" name="(\w+)" value="([^"]*)"', answer.text)
            self.hidden = {name: html.unescape(value) for name, value in found}
        return answer

    def sign_in(self, email: str, password: str = PASSWORD, path: str = "/login") -> httpx2.Response:
        self.get(path)
        return self.post("/login", email=email, password=password)

    def approve(self, path: str, workspace: str = "main", decision: str = "approve") -> httpx2.Response:
        assert self.get(path).status_code == 200
        return self.post("/device", workspace=workspace, decision=decision)


def path_of(url: str) -> str:
    assert url.startswith("http://tide.test/device")
    return url.removeprefix("http://tide.test")


class TestTheCommandLine:
    def test_its_whole_sequence(self, api: Api, person: str) -> None:
        begun = started(api)
        assert begun.keys() == {
            "device_code",
            "user_code",
            "verification_uri",
            "verification_uri_complete",
            "expires_in",
            "interval",
        }
        assert (begun["expires_in"], begun["interval"]) == (600, 3)
        assert re.fullmatch(r"[B-Z]{4}-[B-Z]{4}", begun["user_code"])
        assert begun["verification_uri_complete"] == f"{begun['verification_uri']}?user_code={begun['user_code']}"
        # it polls sixty times without a pause of ours, and is never told to slow down: it would give up
        for _ in range(60):
            refused(polled(api, begun["device_code"]), "authorization_pending", "device_code")
        browser, page = Browser(api), path_of(begun["verification_uri_complete"])
        to = browser.sign_in(person, path=page)
        assert (to.status_code, to.headers["location"]) == (303, page)
        assert "Approved" in browser.approve(page).text
        pair = given(polled(api, begun["device_code"]))
        assert pair["refresh_token"]
        # then it reads the workspace that it was asked for, or lists them, and keeps the pair
        access = bearer(pair["access_token"], "main")
        assert api.get("/v0/workspaces/main", headers=access).json()["id"] == "main"
        assert [each["name"] for each in api.get("/v0/workspaces", headers=bearer(pair["access_token"])).json()] == [
            "main"
        ]
        assert api.get("/v0/jobs", headers=access).status_code == 200
        again = given(refreshed(api, pair["refresh_token"], device_code=begun["device_code"]))
        assert api.get("/v0/jobs", headers=bearer(again["access_token"])).status_code == 200

    def test_its_tokens_are_given_once(self, api: Api, person: str) -> None:
        begun = approved(api, person)
        given(polled(api, begun["device_code"]))
        refused(polled(api, begun["device_code"]), "invalid_grant", "device_code")

    def test_a_no_ends_it(self, api: Api, person: str) -> None:
        begun = approved(api, person, decision="deny")
        refused(polled(api, begun["device_code"]), "access_denied", "device_code")

    def test_nobody_came(self, api: Api) -> None:
        begun = started(api)
        api.later(600)
        refused(polled(api, begun["device_code"]), "expired_token", "device_code")

    def test_a_yes_of_somebody_who_has_left_since_is_none(self, api: Api, person: str) -> None:
        begun = approved(api, person)
        api.delete(f"/v0/users/{person}")
        refused(polled(api, begun["device_code"]), "access_denied", "device_code")

    def test_scopes_are_those_that_were_asked_for(self, api: Api, person: str) -> None:
        begun = started(api, scope="jobs:list offline_access")
        browser, page = Browser(api), path_of(begun["verification_uri_complete"])
        browser.sign_in(person, path=page)
        assert "jobs:list" in browser.get(page).text
        browser.approve(page)
        assert claims(given(polled(api, begun["device_code"]))["access_token"])["scope"] == "jobs:list"

    def test_more_than_the_role_has_cannot_be_approved(self, api: Api, person: str) -> None:
        begun = started(api, scope="workspaces:update")
        browser, page = Browser(api), path_of(begun["verification_uri_complete"])
        browser.sign_in(person, path=page)
        assert "workspaces:update" in browser.approve(page).text
        refused(polled(api, begun["device_code"]), "authorization_pending", "device_code")

    @pytest.mark.parametrize(
        "body", [{}, {"client_id": ""}, {"client_id": 7}, {"client_id": "x" * 65}, {"client_id": "a\nb"}]
    )
    def test_who_asks_must_say_who_it_is(self, api: Api, body: dict[str, object]) -> None:
        refused(api.post(START, body, headers=NOBODY), "invalid_request", "client_id")

    def test_a_scope_that_there_is_not(self, api: Api) -> None:
        refused(api.post(START, {**ASKED, "scope": "jobs:fly"}, headers=NOBODY), "invalid_scope", "jobs:fly")

    def test_codes_that_are_none(self, api: Api) -> None:
        refused(api.post(TOKEN, {"grant_type": DEVICE}, headers=NOBODY), "invalid_request", "device_code")
        refused(polled(api, "x"), "invalid_grant", "device_code")
        refused(polled(api, started(api)["device_code"], client_id="other"), "invalid_grant", "device_code")

    def test_neither_code_is_in_the_ledger(self, api: Api) -> None:
        begun = started(api)
        held = b"".join(path.read_bytes() for path in api.parts.arrivals.parent.rglob("*") if path.is_file())
        for code in (begun["device_code"], begun["user_code"], begun["user_code"].replace("-", "")):
            assert code.encode() not in held

    def test_there_are_never_too_many(self, api: Api) -> None:
        begun = device_flow.LASTS

        def many(connection: Connection) -> None:
            for number in range(device_flow.MOST_WAITING):
                new = DeviceCode(
                    digest=f"d{number}",
                    user_digest=f"u{number}",
                    client="x",
                    scope="",
                    created_at=api.now[0],
                    expires_at=api.now[0] + begun,
                )
                device_codes.add(connection, new)

        api.parts.database.write(many)
        assert_problem(api.post(START, ASKED, headers=NOBODY), 429, "TOO_MANY_TRIES")

    def test_an_address_cannot_begin_without_end(self, api: Api) -> None:
        for _ in range(device_flow.STARTS_FROM_ONE):
            started(api)
        assert_problem(api.post(START, ASKED, headers=NOBODY), 429, "TOO_MANY_TRIES")
        api.later(901)
        assert started(api)


def approved(api: Api, person: str, decision: str = "approve") -> dict[str, Any]:
    begun = started(api)
    browser, page = Browser(api), path_of(begun["verification_uri_complete"])
    browser.sign_in(person, path=page)
    assert browser.approve(page, decision=decision).status_code == 200
    return begun


class TestPages:
    def test_every_page_has_the_strict_policy_and_no_script(self, api: Api, person: str) -> None:
        browser = Browser(api)
        pages = [browser.get("/login"), browser.get("/device"), browser.post("/login")]
        browser.sign_in(person)
        pages += [browser.get("/login"), browser.get("/device"), browser.get("/device?user_code=BCDF-GHJK")]
        code = started(api)["user_code"]
        pages += [
            browser.get(f"/device?user_code={code}"),
            browser.approve(f"/device?user_code={code}", decision="deny"),
        ]
        for each in pages:
            policy = each.headers["content-security-policy"]
            assert policy.startswith("default-src 'none'; style-src 'sha256-")
            assert "script-src" not in policy
            assert "unsafe" not in policy
            assert all(word in policy for word in ("form-action 'self'", "base-uri 'none'", "frame-ancestors 'none'"))
            assert each.headers["cache-control"] == "no-store"
            assert each.headers["x-content-type-options"] == "nosniff"
            assert "<script" not in each.text

    def test_cookies_are_no_scripts_and_no_other_sites(self, api: Api, person: str) -> None:
        browser = Browser(api)
        browser.sign_in(person)
        for line in browser.set_cookies:
            assert {"HttpOnly", "SameSite=strict", "Path=/"} <= set(line.split("; "))
            assert "Secure" not in line
        api.context = api.with_public_url("https://tide.example.org")
        browser = Browser(api)
        browser.sign_in(person)
        assert browser.set_cookies
        for line in browser.set_cookies:
            assert line.startswith("__Host-")
            assert "Secure" in line
        assert person in browser.get("/login").text

    def test_a_form_of_another_site_does_nothing(self, api: Api, person: str) -> None:
        begun = started(api)
        page = path_of(begun["verification_uri_complete"])
        victim, attacker = Browser(api), Browser(api)
        victim.sign_in(person, path=page)
        attacker.get("/login")
        for forged in ("", "x", attacker.hidden["token"], "\u00e9"):
            victim.hidden = {"user_code": begun["user_code"], "token": forged}
            assert victim.post("/device", workspace="main", decision="approve").status_code == 403
        refused(polled(api, begun["device_code"]), "authorization_pending", "device_code")
        assert Browser(api).post("/login", email=person, password=PASSWORD).status_code == 403

    def test_a_form_from_before_the_sign_in_is_too_old_after_it(self, api: Api, person: str) -> None:
        browser = Browser(api)
        browser.get("/login")
        before = browser.hidden["token"]
        browser.post("/login", email=person, password=PASSWORD)
        browser.hidden = {"token": before}
        assert browser.post("/login/end").status_code == 403
        assert person in browser.get("/login").text

    def test_without_a_session_nothing_is_decided(self, api: Api) -> None:
        begun = started(api)
        browser = Browser(api)
        answer = browser.get(path_of(begun["verification_uri_complete"]))
        assert "Sign in" in answer.text
        answer = browser.post("/device", workspace="main", decision="approve")
        assert answer.status_code == 403
        refused(polled(api, begun["device_code"]), "authorization_pending", "device_code")

    def test_a_workspace_that_is_not_theirs_cannot_be_chosen(self, api: Api, person: str) -> None:
        begun = started(api)
        browser, page = Browser(api), path_of(begun["verification_uri_complete"])
        browser.sign_in(person, path=page)
        for workspace in ("other", "nowhere", ""):
            assert browser.approve(page, workspace=workspace).status_code in {400, 403}
        refused(polled(api, begun["device_code"]), "authorization_pending", "device_code")

    def test_a_code_may_be_typed_as_people_do_and_is_good_once(self, api: Api, person: str) -> None:
        code = started(api)["user_code"]
        browser = Browser(api)
        browser.sign_in(person)
        typed = f"/device?user_code=%20{code.lower().replace('-', '%20')}"
        assert "blaxel" in browser.get(typed).text
        browser.approve(typed)
        assert browser.get(typed).status_code == 404

    def test_of_two_decisions_at_once_the_first_counts(self, api: Api) -> None:
        """Both have seen that nobody had decided: the second write finds that somebody has."""
        typed = started(api)["user_code"].replace("-", "")
        digest, now = api.parts.keyring.mac("user code", typed.encode()).hex(), api.now[0]

        def decided(workspace: str) -> bool:
            return api.parts.database.write(
                lambda connection: device_codes.decide(connection, digest, account="a", workspace=workspace, now=now)
            )

        assert [decided(""), decided("main")] == [True, False]

    def test_codes_cannot_be_guessed_without_end(self, api: Api, person: str) -> None:
        browser = Browser(api)
        browser.sign_in(person)
        for _ in range(device_flow.GUESSES_BY_ONE):
            assert browser.get("/device?user_code=BCDF-GHJK").status_code == 404
        assert browser.get(f"/device?user_code={started(api)['user_code']}").status_code == 429

    def test_what_a_program_calls_itself_is_text(self, api: Api, person: str) -> None:
        begun = started(api, client_id="<b onload=x>&\"'")
        browser, page = Browser(api), path_of(begun["verification_uri_complete"])
        browser.sign_in(person, path=page)
        answer = browser.get(page)
        assert "<b onload" not in answer.text
        assert html.escape("<b onload=x>") in answer.text
        answer = browser.get("/device?user_code=%22%3E%3Cscript%3E")
        assert "<script" not in answer.text
        assert "<script" not in Browser(api).get("/device?user_code=%22%3E%3Cscript%3E").text

    def test_a_session_ends_by_itself_and_when_asked(self, api: Api, person: str) -> None:
        browser = Browser(api)
        browser.sign_in(person)
        stolen = dict(browser.cookies)
        browser.get("/login")
        assert browser.post("/login/end").headers["location"] == "/login"
        assert "Password" in Browser(api, cookies=stolen).get("/login").text
        browser = Browser(api)
        browser.sign_in(person)
        api.later(12 * 3600)
        assert "Password" in browser.get("/login").text


class TestPasswords:
    def test_a_wrong_one_and_an_unknown_email_are_told_alike(self, api: Api, person: str) -> None:
        nobody_yet = api.post("/v0/users", {"email": "new@example.org"}).json()["email"]
        texts = set()
        for email in (person, "nobody@example.org", nobody_yet, "", "x" * 300):
            browser = Browser(api)
            answer = browser.sign_in(email, OTHER)
            assert answer.status_code == 401
            texts.add(answer.text.replace(browser.hidden["token"], ""))
        assert len(texts) == 1

    def test_as_much_is_hashed_for_an_unknown_email(self, api: Api, person: str) -> None:
        """Counted, not timed."""
        hashings: list[object] = []

        def seen(_frame: object, event: str, called: object) -> None:
            if event == "c_call" and getattr(called, "__name__", "").endswith("_phc_encoded"):
                hashings.append(called)

        assert sign_in.by_password(api.parts, "first@example.org", OTHER, "", now=api.now[0]) is None
        counts = []
        for email in (person, "nobody@example.org"):
            hashings.clear()
            sys.setprofile(seen)
            try:
                sign_in.by_password(api.parts, email, OTHER, "", now=api.now[0])
            finally:
                sys.setprofile(None)
            counts.append(len(hashings))
        assert counts == [1, 1]

    def test_an_account_cannot_be_guessed_at_without_end(self, api: Api, person: str) -> None:
        for email in (person, "nobody@example.org"):
            for _ in range(sign_in.GUESSES_AT_ONE):
                assert Browser(api).sign_in(email, OTHER).status_code == 401
            assert Browser(api).sign_in(email).status_code == 429
        api.later(900)
        assert Browser(api).sign_in(person).status_code == 303

    def test_who_knows_it_is_not_counted(self, api: Api, person: str) -> None:
        for _ in range(sign_in.GUESSES_AT_ONE + 1):
            assert Browser(api).sign_in(person).status_code == 303

    def test_an_address_cannot_guess_without_end(self, api: Api, person: str) -> None:
        for _ in range(sign_in.GUESSES_FROM_ONE):  # at as many accounts
            guesses.count(api.parts, {"address/127.0.0.1": sign_in.GUESSES_FROM_ONE}, now=api.now[0])
        assert Browser(api).sign_in(person).status_code == 429

    def test_one_sets_ones_own_and_whoever_was_signed_in_is_so_no_more(self, api: Api, person: str) -> None:
        browser = Browser(api)
        browser.sign_in(person)
        pair = given(polled(api, approved(api, person)["device_code"]))
        access = bearer(pair["access_token"])
        answer = api.put(OWN, {"current": OTHER, "new": OTHER}, headers=access)
        assert "current" in assert_problem(answer, 400, "INVALID")
        answer = api.put(OWN, {"current": PASSWORD, "new": OTHER}, headers=access)
        assert answer.status_code == 200
        assert "Password" in browser.get("/login").text
        assert_problem(api.get("/v0/jobs", headers=access), 401, "UNAUTHORIZED")
        refused(refreshed(api, pair["refresh_token"]), "invalid_grant", "refresh_token")
        assert Browser(api).sign_in(person).status_code == 401
        assert Browser(api).sign_in(person, OTHER).status_code == 303

    def test_the_first_one_is_set_with_an_api_key(self, api: Api) -> None:
        assert api.put(OWN, {"new": PASSWORD}, headers=bearer(ADMIN)).status_code == 200
        assert Browser(api).sign_in("admin@main").status_code == 303
        answer = api.put(OWN, {"new": OTHER}, headers=bearer(ADMIN))
        assert "current" in assert_problem(answer, 400, "INVALID")

    def test_its_guesses_are_counted_too(self, api: Api) -> None:
        api.put(OWN, {"new": PASSWORD})
        for _ in range(sign_in.GUESSES_AT_ONE):
            assert_problem(api.put(OWN, {"current": OTHER, "new": OTHER}), 400, "INVALID")
        assert_problem(api.put(OWN, {"current": PASSWORD, "new": OTHER}), 429, "TOO_MANY_TRIES")

    def test_a_program_has_none(self, api: Api) -> None:
        access = bearer(token(api, program(api, role="admin")))
        assert_problem(api.put(OWN, {"new": PASSWORD}, headers=access), 403, "FORBIDDEN")

    @pytest.mark.parametrize("new", ["short", "x" * 11, "x" * 257, "", None, 7, ["x"]])
    def test_what_is_none_is_told_and_never_repeated(self, api: Api, new: object) -> None:
        text = assert_problem(api.put(OWN, {"new": new}), 400, "INVALID")
        assert "new" in text
        assert "xxx" not in text
        text = assert_problem(api.post("/v0/users", {"email": "b@example.org", "password": new or 7}), 400, "INVALID")
        assert "password" in text
        assert len(api.get("/v0/users").json()) == 2

    def test_an_admin_gives_none_to_an_account_that_is_there(self, api: Api, person: str) -> None:
        api.post("/v0/workspaces", {"name": "lab"})
        lab = {"X-Blaxel-Workspace": "lab"}
        answer = api.post("/v0/users", {"email": person, "password": OTHER}, headers=lab)
        assert "password" in assert_problem(answer, 400, "INVALID")
        assert Browser(api).sign_in(person).status_code == 303

    def test_a_token_limited_in_scope_gives_none(self, api: Api) -> None:
        access = bearer(token(api, program(api, role="admin"), scope="workspaces:update"))
        answer = api.post("/v0/users", {"email": "b@example.org", "password": PASSWORD}, headers=access)
        assert "limited" in assert_problem(answer, 403, "FORBIDDEN")

    def test_it_is_in_no_log_no_answer_and_not_in_the_ledger(self, api: Api, person: str) -> None:
        with capture_logs() as logs:
            for password in (PASSWORD, OTHER):
                assert password not in Browser(api).sign_in(person, password).text
            assert PASSWORD not in api.get("/v0/users").text
        assert PASSWORD not in repr(logs)
        held = b"".join(path.read_bytes() for path in api.parts.arrivals.parent.rglob("*") if path.is_file())
        assert PASSWORD.encode() not in held
        assert b"$argon2id$v=19$m=19456,t=2,p=1$" in held

    def test_without_the_key_ring_the_ledger_cannot_be_guessed_at(self, api: Api, person: str) -> None:
        rows = api.parts.database.read(lambda connection: connection.execute(schema.account.select()).all())
        (kept,) = [row.password for row in rows if row.email == person]
        assert not passwords.matches(PASSWORD, kept, b"another key")


def test_what_has_ended_is_swept(api: Api, person: str) -> None:
    started(api)
    Browser(api).sign_in(person, OTHER)
    Browser(api).sign_in(person)
    api.later(13 * 3600)
    swept = api.parts.database.write(lambda connection: stored.sweep(connection, now=api.now[0], limit=100))
    assert swept >= 3
    assert api.parts.database.read(device_codes.waiting) == 0


def test_a_role_is_read_when_the_tokens_are_given(api: Api, person: str) -> None:
    begun = approved(api, person)
    api.put(f"/v0/users/{person}", {"role": "admin"})
    told = claims(given(polled(api, begun["device_code"]))["access_token"])
    assert told["role"] == Role.ADMIN.value
