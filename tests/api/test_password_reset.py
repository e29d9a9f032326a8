"""A person who has forgotten their password gets a link of an admin; and nobody gets into what is not the admin's."""

import re
from typing import Any, Final
from urllib.parse import parse_qs, urlsplit

import httpx2
import pytest

from tests.api.asking import ADMIN, MEMBER, STRANGER, Api
from tests.api.test_access import assert_problem
from tests.api.test_audit import all_rows
from tests.api.test_device_login import OTHER, PASSWORD, Browser, approved, polled
from tests.api.test_identity import bearer, key_of, service_account
from tests.api.test_tokens import given, program, refreshed, token
from tidemill.model.errors import Forbidden
from tidemill.model.principal import Principal, Role
from tidemill.service import password_resets, sign_in

ADA: Final = "ada@example.org"
DAY_S: Final = 24 * 3_600


@pytest.fixture
def ada(api: Api) -> str:
    """A member of main; the id of the account."""
    made = api.post("/v0/users", {"email": ADA, "password": PASSWORD})
    assert made.status_code == 200, made.text
    return str(made.json()["sub"])


def asked(api: Api, user: str = ADA, key: str = ADMIN, workspace: str = "main") -> httpx2.Response:
    return api.post(f"/v0/users/{user}/password_reset", headers=bearer(key, workspace))


def link(api: Api, user: str = ADA) -> str:
    """The path of a link."""
    answer = asked(api, user)
    assert answer.status_code == 200, answer.text
    url = urlsplit(answer.json()["url"])
    return f"{url.path}?{url.query}"


def use(api: Api, path: str, password: str = OTHER) -> httpx2.Response:
    browser = Browser(api)
    shown = browser.get(path)
    return browser.post("/login/reset", password=password) if shown.status_code == 200 else shown


def signs_in(api: Api, password: str, email: str = ADA) -> bool:
    return Browser(api).sign_in(email, password).status_code == 303


def test_whoever_has_the_link_sets_a_password(api: Api, ada: str) -> None:
    answer = asked(api)
    assert answer.json().keys() == {"url", "expiresAt"}
    assert answer.json()["url"].startswith("http://tide.test/login/reset?key=")
    assert answer.json()["expiresAt"] == "2026-11-24T12:00:00.000000Z"
    assert answer.headers["cache-control"] == "no-store"
    path = link(api)
    assert ADA in Browser(api).get(path).text
    assert "The password is set" in use(api, path).text
    assert (signs_in(api, PASSWORD), signs_in(api, OTHER)) == (False, True)


def test_who_had_none_gets_one(api: Api) -> None:
    api.post("/v0/users", {"email": "new@example.org"})
    assert use(api, link(api, "new@example.org")).status_code == 200
    assert signs_in(api, OTHER, "new@example.org")


def test_behind_a_public_url_it_leads_there(api: Api, ada: str) -> None:
    api.context = api.with_public_url("https://tide.example.org")
    assert asked(api, ada).json()["url"].startswith("https://tide.example.org/login/reset?key=")


def test_it_ends_sessions_and_tokens_of_that_person_and_of_nobody_else(api: Api, ada: str) -> None:
    begun = approved(api, ADA)
    pair = given(polled(api, begun["device_code"]))
    browser, path = Browser(api), link(api)
    browser.sign_in(ADA)
    ci = token(api, program(api))
    assert use(api, path).status_code == 200
    assert ADA not in browser.get("/login").text
    assert api.get("/v0/jobs", headers=bearer(pair["access_token"], "main")).status_code == 401
    assert refreshed(api, pair["refresh_token"]).status_code == 400
    assert api.get("/v0/jobs", headers=bearer(ci)).status_code == 200


def test_it_is_good_once(api: Api, ada: str) -> None:
    path, other = link(api), link(api)
    assert use(api, path).status_code == 200
    for each in (path, other):
        answer = use(api, each, PASSWORD)
        assert answer.status_code == 403
        assert "used already" in answer.text
    assert signs_in(api, OTHER)


def test_a_form_that_was_open_is_too_late_once_another_was_sent(api: Api, ada: str) -> None:
    path = link(api)
    one, two = Browser(api), Browser(api)
    for browser in (one, two):
        assert browser.get(path).status_code == 200
    assert one.post("/login/reset", password=OTHER).status_code == 200
    assert two.post("/login/reset", password=PASSWORD).status_code == 403
    assert signs_in(api, OTHER)


def test_of_two_at_the_same_moment_one_sets_it(api: Api, ada: str, monkeypatch: pytest.MonkeyPatch) -> None:
    key = parse_qs(urlsplit(link(api)).query)["key"][0]
    real = sign_in.hashed

    def overtaken(parts: Any, password: str, path: str) -> str:
        kept = real(parts, password, path)
        monkeypatch.setattr(sign_in, "hashed", real)
        # both had looked at the link, and the other one is faster
        password_resets.use(api.parts, key, PASSWORD + "!", now=api.now[0])
        return kept

    monkeypatch.setattr(sign_in, "hashed", overtaken)
    with pytest.raises(Forbidden, match="used already"):
        password_resets.use(api.parts, key, OTHER, now=api.now[0])
    assert (signs_in(api, OTHER), signs_in(api, PASSWORD + "!")) == (False, True)


def test_it_ends_after_a_day_and_with_any_new_password(api: Api, ada: str) -> None:
    path = link(api)
    api.later(DAY_S - 1)
    assert Browser(api).get(path).status_code == 200
    api.later(1)
    assert use(api, path).status_code == 403
    path = link(api)
    caller = Principal(id=ada, workspace="main", role=Role.MEMBER)
    sign_in.set_password(api.parts, caller, PASSWORD, "another one is set", now=api.now[0])
    assert use(api, path).status_code == 403


def test_a_link_that_was_changed_anywhere_is_none(api: Api, ada: str) -> None:
    key = parse_qs(urlsplit(link(api)).query)["key"][0]
    about, expires, mac = key.split(".")
    other = asked(api, "member@example.org").json()["url"].partition("key=")[2].split(".")[0]
    for wrong in (
        *("", "x", "..", f"{about}.{expires}", f"{about}.{expires}.", f"{about}.{expires}.{mac}x"),
        *(f"{about}.{int(expires) + 1}.{mac}", f"{other}.{expires}.{mac}", f"{about}.9999999999.{mac}"),
        *(
            f"{about}.{'9' * 5_000}.{mac}",
            f"\u00e9.{expires}.{mac}",
            f"{about}.\u0663.{mac}",
            f"{about}.{expires}.\u00e9",
        ),
    ):
        answer = Browser(api).api.get("/login/reset", params={"key": wrong}, headers={"Authorization": None})
        assert answer.status_code == 403, wrong
    assert signs_in(api, PASSWORD)


def test_a_password_that_is_none_is_told_and_the_link_stays_good(api: Api, ada: str) -> None:
    path = link(api)
    for short in ("", "short", "x" * 257):
        answer = use(api, path, short)
        assert answer.status_code == 400
        assert "it must have 12 to 256" in answer.text
        assert 'name="password"' in answer.text
    assert use(api, path).status_code == 200


def test_a_form_of_another_site_does_nothing(api: Api, ada: str) -> None:
    browser = Browser(api)
    browser.get(link(api))
    browser.hidden["token"] = "forged"
    assert browser.post("/login/reset", password=OTHER).status_code == 403
    assert signs_in(api, PASSWORD)


@pytest.mark.usefixtures("ada")
class TestWhose:
    """Who sets a password has all that the account has."""

    def test_members_make_none(self, api: Api) -> None:
        assert_problem(asked(api, key=MEMBER), 403, "FORBIDDEN")

    def test_nor_do_admins_of_other_workspaces(self, api: Api) -> None:
        assert_problem(asked(api, key=STRANGER, workspace="other"), 404, "NOT_FOUND")
        assert_problem(asked(api, "nobody@example.org"), 404, "NOT_FOUND")

    def test_an_account_of_other_workspaces_too_is_for_an_admin_of_all_of_them(self, api: Api) -> None:
        api.post("/v0/users", {"email": ADA}, headers=bearer(STRANGER))
        for key, workspace in ((ADMIN, "main"), (STRANGER, "other")):
            message = assert_problem(asked(api, key=key, workspace=workspace), 403, "FORBIDDEN")
            assert "in other workspaces too" in message
            assert not any(each in message for each in ('"main"', '"other"'))
        api.person("boss@example.org", Role.ADMIN, "tm_boss")
        api.person("boss@example.org", Role.MEMBER, "tm_boss", workspace="other")
        assert_problem(asked(api, key="tm_boss"), 403, "FORBIDDEN")
        api.person("boss@example.org", Role.ADMIN, "tm_boss", workspace="other")
        assert asked(api, key="tm_boss").status_code == 200
        # or the others let it go
        api.delete(f"/v0/users/{ADA}", headers=bearer(STRANGER))
        assert asked(api).status_code == 200

    def test_a_link_ends_when_the_account_gets_into_another_workspace(self, api: Api) -> None:
        path = link(api)
        api.post("/v0/users", {"email": ADA}, headers=bearer(STRANGER))
        assert use(api, path).status_code == 403
        assert signs_in(api, PASSWORD)

    def test_a_token_makes_none_beyond_its_workspace_or_its_scopes(self, api: Api) -> None:
        ci = program(api, role="admin")
        assert asked(api, key=token(api, ci)).status_code == 200
        narrow = token(api, ci, scope="workspaces:update")
        assert "limited in scope" in assert_problem(asked(api, key=narrow), 403, "FORBIDDEN")
        api.post("/v0/users", {"email": ADA}, headers=bearer(STRANGER))
        key = key_of(api, service_account(api, role="admin")["client_id"])["apiKey"]
        assert_problem(asked(api, key=key), 403, "FORBIDDEN")


class TestAudit:
    def test_both_halves_are_written_down_and_no_secret(self, api: Api, ada: str) -> None:
        path = link(api)
        use(api, path)
        use(api, path)
        made, used, again = all_rows(api)[-3:]
        assert (made.action, made.resource, made.outcome) == (
            "users.reset_password",
            f"users/{ADA}/password_reset",
            "success",
        )
        assert (used.action, used.actor, used.actor_kind, used.credential) == (
            *("passwords.reset", ada, "user", "reset_link"),
        )
        assert (used.workspace, used.outcome, used.status) == ("main", "success", 200)
        assert (again.action, again.actor_kind, again.outcome, again.status) == (
            *("passwords.reset", "nobody", "failed", 403),
        )
        kept = str([tuple(row) for row in all_rows(api)])
        key = parse_qs(urlsplit(path).query)["key"][0]
        assert [each for each in (key, *key.split("."), OTHER) if each in kept] == []

    @pytest.mark.usefixtures("ada")
    def test_the_link_is_in_no_file_of_the_server(self, api: Api) -> None:
        mac = link(api).rpartition(".")[2]
        files = [path.read_bytes() for path in api.parts.arrivals.parent.rglob("*") if path.is_file()]
        assert not any(mac.encode() in held for held in files)


def test_who_was_locked_out_by_guesses_signs_in_again(api: Api, ada: str) -> None:
    for _ in range(sign_in.GUESSES_AT_ONE + 1):
        Browser(api).sign_in(ADA, OTHER)
    assert Browser(api).sign_in(ADA, PASSWORD).status_code == 429
    use(api, link(api))
    assert signs_in(api, OTHER)


def test_the_page_has_the_policy_of_the_others(api: Api, ada: str) -> None:
    answer = Browser(api).get(link(api))
    assert answer.headers["content-security-policy"].startswith("default-src 'none'")
    assert answer.headers["cache-control"] == "no-store"
    assert re.search(r'autocomplete="new-password"', answer.text)
