"""The audit of those who come without a credential: sign-ins, tokens, decisions, uploads; and that it has bounds."""

import asyncio
import json
from collections.abc import Callable
from typing import Any, Final

import httpx2
import pytest
from sqlalchemy import text

from tests.api.asking import MEMBER, STRANGER, Api, archive
from tests.api.test_access import assert_problem
from tests.api.test_audit import all_rows, rows, whole
from tests.api.test_device_login import OTHER, PASSWORD, Browser, approved, path_of, polled, started
from tests.api.test_identity import bearer
from tests.api.test_tokens import CLIENT, NOBODY, TOKEN, given, program, refreshed, signed_in, token
from tests.costs import cost
from tidemill.model.audit import AuditEntry
from tidemill.service import entrances
from tidemill.store import audit
from tidemill.store.audit_anchor import Mac

ACCOUNT: Final = "user-member@example.org"
REVOKE: Final = "/v0/oauth/revoke"


@pytest.fixture
def person(api: Api) -> str:
    """Somebody who can sign in, a member of main."""
    assert api.post("/v0/users", {"email": "ada@example.org", "password": PASSWORD}).status_code == 200
    return "ada@example.org"


def seen(api: Api, action: str) -> list[Any]:
    """Of every workspace, oldest first."""
    return [row for row in all_rows(api) if row.action == action]


def tell(row: Any) -> tuple[str, ...]:
    return row.workspace, row.actor, row.actor_kind, row.credential, row.resource, row.outcome, str(row.status)


def sub(api: Api, email: str) -> str:
    (found,) = [each["sub"] for each in api.get("/v0/users").json() if each["email"] == email]
    return str(found)


class TestSessions:
    def test_a_sign_in_and_its_end_are_written_down(self, api: Api, person: str) -> None:
        browser = Browser(api)
        answer = browser.sign_in(person)
        (row,) = seen(api, "sessions.create")
        account = sub(api, person)
        assert tell(row) == ("main", account, "user", "password", "login", "success", "200")
        assert (row.address, row.request) == ("127.0.0.1", answer.headers["x-request-id"])
        browser.get("/login")
        browser.post("/login/end")
        (row,) = seen(api, "sessions.end")
        assert tell(row) == ("main", account, "user", "session", "login", "success", "200")
        assert rows(api)[0]["actor"] == account
        assert whole(api) == []

    def test_ending_no_session_is_nothing(self, api: Api) -> None:
        browser = Browser(api)
        browser.get("/login")
        browser.post("/login/end")
        assert seen(api, "sessions.end") == []

    def test_a_failure_says_which_email_was_tried_and_not_what_was_wrong(self, api: Api, person: str) -> None:
        for email, password in ((person, OTHER), ("nobody@example.org", PASSWORD)):
            assert Browser(api).sign_in(email, password).status_code == 401
        found = seen(api, "sessions.create")
        assert [tell(row) for row in found] == [
            ("main", "", "nobody", "password", f'login/"{person}"', "failed", "401"),
            ("main", "", "nobody", "password", 'login/"nobody@example.org"', "failed", "401"),
        ]
        assert [row["actorType"] for row in rows(api, "resource=login")] == ["nobody", "nobody"]
        kept = str([tuple(row) for row in all_rows(api)])
        assert PASSWORD not in kept
        assert OTHER not in kept

    @pytest.mark.parametrize("email", ["x" * 5_000, 'a"b/c\n\x00<b>', "\ud800@example.org", "a@" + "b." * 900 + "c"])
    def test_what_was_tried_is_bounded_and_quoted(self, api: Api, email: str) -> None:
        fields = {"email": email.encode("utf-8", "surrogatepass"), "password": b"x" * 12}
        browser = Browser(api)
        browser.get("/login")
        answer = browser.api.request("POST", "/login", data={**browser.hidden, **fields}, headers=browser.headers())
        assert answer.status_code in {400, 401}
        for row in seen(api, "sessions.create"):
            assert len(row.resource) < 100
            assert row.resource == "login/?" or row.resource.startswith('login/"')
            assert row.resource.isprintable()
        assert api.get("/v0/audit").status_code == 200

    def test_a_secret_in_the_wrong_field_is_in_no_row(self, api: Api) -> None:
        browser = Browser(api)
        browser.get("/login")
        fields = {"email": "my password is long", "password": "x" * 12}
        browser.api.request("POST", "/login", data={**browser.hidden, **fields}, headers=browser.headers())
        made = api.post("/v0/service_accounts", {"name": "ci"}).json()
        swapped = {"client_id": made["client_secret"], "client_secret": made["client_id"]}
        api.post("/v0/oauth/token", {"grant_type": "client_credentials", **swapped})
        kept = str([tuple(row) for row in all_rows(api)])
        assert "my password" not in kept
        assert made["client_secret"] not in kept
        assert [row["resource"] for row in rows(api, "resource=login")] == ["login/?"]

    def test_an_unknown_email_and_a_wrong_password_cost_the_same(self, api: Api, person: str) -> None:
        browser = Browser(api)
        tries = (person, "nobody@example.org")
        for each in tries:
            browser.sign_in(each, OTHER)
        costs = []
        for each in tries:
            browser.get("/login")
            costs.append(cost(lambda each=each: browser.post("/login", email=each, password=OTHER)).statements)  # type: ignore[misc]
        assert costs[0] == costs[1]


class TestTokens:
    def test_of_a_program(self, api: Api) -> None:
        ci = program(api)
        answer = api.post(TOKEN, {**CLIENT, **ci}, headers=NOBODY)
        (row,) = seen(api, "tokens.create")
        assert tell(row) == (
            *("main", ci["client_id"], "service_account", "client_secret", "oauth/token", "success", "200"),
        )
        assert row.request == answer.headers["x-request-id"]

    def test_none_is_given_when_it_cannot_be_written_down(self, api: Api) -> None:
        ci, person = program(api), signed_in(api)
        forbid = "CREATE TRIGGER no_more BEFORE INSERT ON audit BEGIN SELECT RAISE(ABORT, 'no row'); END"
        api.parts.database.write(lambda connection: connection.execute(text(forbid)))
        assert "access_token" not in api.post(TOKEN, {**CLIENT, **ci}, headers=NOBODY).text
        assert "access_token" not in refreshed(api, person.refresh).text
        api.parts.database.write(lambda connection: connection.execute(text("DROP TRIGGER no_more")))
        # the unit of the refresh was undone with its row: the old one is good
        assert given(refreshed(api, person.refresh))
        assert whole(api) == []

    def test_a_wrong_secret_is_seen_by_whose_it_would_be(self, api: Api) -> None:
        theirs = {**program(api, **{"X-Blaxel-Workspace": "main"}), "client_secret": "tms_wrong"}
        for client in (theirs, {"client_id": "sa-none", "client_secret": "tms_wrong"}):
            assert api.post(TOKEN, {**CLIENT, **client}, headers=NOBODY).status_code == 400
        assert [tell(row) for row in seen(api, "tokens.create")] == [
            ("main", "", "nobody", "client_secret", f'oauth/token/"{theirs["client_id"]}"', "failed", "400"),
            ("main", "", "nobody", "client_secret", 'oauth/token/"sa-none"', "failed", "400"),
        ]
        assert "tms_wrong" not in str([tuple(row) for row in all_rows(api)])

    def test_of_a_person_who_refreshes(self, api: Api) -> None:
        pair = signed_in(api)
        given(refreshed(api, pair.refresh))
        (row,) = seen(api, "tokens.create")
        assert tell(row) == ("main", ACCOUNT, "user", "refresh_token", "oauth/token", "success", "200")

    def test_a_token_that_was_used_before_and_the_end_of_its_family(self, api: Api) -> None:
        first = signed_in(api)
        second = given(refreshed(api, first.refresh))["refresh_token"]
        assert refreshed(api, first.refresh).status_code == 400
        (row,) = seen(api, "tokens.reuse")
        assert tell(row) == ("main", ACCOUNT, "user", "refresh_token", "oauth/token", "refused", "400")
        # the family has ended once; what is shown of it now is of nobody
        assert refreshed(api, second).status_code == 400
        assert refreshed(api, first.refresh).status_code == 400
        assert len(seen(api, "tokens.reuse")) == 1
        assert [tell(row)[1:3] for row in seen(api, "tokens.create")[1:]] == [("", "nobody")] * 2

    def test_of_many_at_once_the_end_of_the_family_is_written_once(self, api: Api) -> None:
        body = {"grant_type": "refresh_token", "refresh_token": signed_in(api).refresh}

        async def all_at_once(client: httpx2.AsyncClient) -> list[int]:
            answers = await asyncio.gather(*(client.post(TOKEN, json=body) for _ in range(8)))
            return [answer.status_code for answer in answers]

        assert sorted(api.session(all_at_once)) == [200, *[400] * 7]
        assert len(seen(api, "tokens.reuse")) == 1
        assert [row.outcome for row in seen(api, "tokens.create")].count("success") == 1
        assert whole(api) == []

    def test_of_somebody_who_has_left(self, api: Api) -> None:
        pair = signed_in(api)
        api.parts.database.write(lambda connection: connection.execute(text("DELETE FROM membership")))
        assert refreshed(api, pair.refresh).status_code == 400
        (row,) = seen(api, "tokens.create")
        assert tell(row) == ("main", ACCOUNT, "user", "refresh_token", "oauth/token", "refused", "400")

    @pytest.mark.parametrize("shown", ["", "x", "tmr_", "tmr_a.b", "tmr_\u00e9.\u00e9"])
    def test_what_is_no_refresh_token(self, api: Api, shown: str) -> None:
        body = json.dumps({"grant_type": "refresh_token", "refresh_token": shown}).encode()
        assert api.post(TOKEN, body, headers=NOBODY).status_code == 400
        assert [tell(row) for row in seen(api, "tokens.create")] == (
            [("main", "", "nobody", "refresh_token", "oauth/token", "failed", "400")] if shown else []
        )

    def test_revocations(self, api: Api) -> None:
        pair, ci = signed_in(api), program(api)
        access = token(api, ci)
        for each in (access, pair.refresh, access, pair.refresh, "x", "tmr_x.y"):
            assert api.post(REVOKE, {"token": each}, headers=NOBODY).status_code == 200
        assert [tell(row) for row in seen(api, "tokens.revoke")] == [
            ("main", ci["client_id"], "service_account", "token", "oauth/revoke", "success", "200"),
            ("main", ACCOUNT, "user", "refresh_token", "oauth/revoke", "success", "200"),
        ]

    def test_each_is_seen_in_the_workspace_of_its_token(self, api: Api) -> None:
        made = api.post("/v0/service_accounts", {"name": "ci"}, headers=bearer(STRANGER)).json()
        token(api, {"client_id": made["client_id"], "client_secret": made["client_secret"]})
        assert [row["action"] for row in rows(api, key=STRANGER)] == ["tokens.create", "service_accounts.create"]
        assert rows(api) == []


class TestDevices:
    def test_a_yes_and_what_is_given_for_it(self, api: Api, person: str) -> None:
        begun = approved(api, person)
        given(polled(api, begun["device_code"]))
        account = sub(api, person)
        (yes,), (grant,) = seen(api, "devices.approve"), seen(api, "tokens.create")
        assert tell(yes) == ("main", account, "user", "session", 'device/"blaxel"', "success", "200")
        assert tell(grant) == ("main", account, "user", "device_code", "oauth/token", "success", "200")

    def test_a_no(self, api: Api, person: str) -> None:
        begun = approved(api, person, decision="deny")
        assert polled(api, begun["device_code"]).status_code == 400
        (no,) = seen(api, "devices.deny")
        assert tell(no) == ("main", sub(api, person), "user", "session", 'device/"blaxel"', "success", "200")
        assert seen(api, "tokens.create") == []

    def test_waiting_leaves_no_rows_and_a_code_that_is_none_does(self, api: Api) -> None:
        begun = started(api)
        for _ in range(60):
            polled(api, begun["device_code"])
        assert all_rows(api) == []
        polled(api, "x")
        (row,) = all_rows(api)
        assert tell(row) == ("main", "", "nobody", "device_code", "oauth/token", "failed", "400")

    def test_a_decision_that_comes_too_late_leaves_none(self, api: Api, person: str) -> None:
        begun = started(api)
        page = path_of(begun["verification_uri_complete"])
        browser = Browser(api)
        browser.sign_in(person, path=page)
        browser.get(page)
        api.later(600)
        assert browser.post("/device", workspace="main", decision="approve").status_code == 404
        assert seen(api, "devices.approve") == []


class TestUploads:
    def test_source_that_was_accepted(self, api: Api) -> None:
        deploy = api.post("/v0/jobs?upload=true", {"metadata": {"name": "sweep"}}, headers=bearer(MEMBER))
        answer = api.upload(deploy)
        (row,) = seen(api, "uploads.accept")
        assert tell(row) == ("main", ACCOUNT, "user", "upload_url", "jobs/sweep", "success", "200")
        assert row.request == answer.headers["x-request-id"]
        assert [each["action"] for each in rows(api, "resource=jobs/sweep")] == ["uploads.accept", "jobs.create"]

    def test_of_a_program(self, api: Api) -> None:
        ci = program(api)
        access = bearer(token(api, ci))
        api.upload(api.post("/v0/jobs?upload=true", {"metadata": {"name": "sweep"}}, headers=access))
        (row,) = seen(api, "uploads.accept")
        assert (row.actor, row.actor_kind) == (ci["client_id"], "service_account")

    def test_what_was_not_accepted_leaves_none(self, api: Api) -> None:
        deploy = api.post("/v0/jobs?upload=true", {"metadata": {"name": "sweep"}})
        assert api.upload(deploy, b"no zip").status_code == 400
        assert api.upload(deploy, archive()).status_code == 200
        assert api.upload(deploy, archive()).status_code == 409
        assert len(seen(api, "uploads.accept")) == 1


class TestBounds:
    """Anybody may be refused as often as they like: that must not fill the disk."""

    def wrong(self, api: Api, address: str = "127.0.0.1") -> httpx2.Response:
        async def send(client: httpx2.AsyncClient) -> httpx2.Response:
            body = {**CLIENT, "client_id": "x", "client_secret": "x"}
            return await client.post(TOKEN, json=body)

        api.transport()
        assert api.served is not None
        api.served = (api.context, httpx2.ASGITransport(app=api.served[1].app, client=(address, 1)))
        return api.session(send)

    def test_one_address_leaves_so_many_rows_and_one_that_says_that_there_were_more(self, api: Api) -> None:
        for _ in range(entrances.REFUSALS_FROM_ONE + 20):
            assert_problem(self.wrong(api), 400, "GRANT_REFUSED")
        assert len(seen(api, "tokens.create")) == entrances.REFUSALS_FROM_ONE
        (more,) = seen(api, entrances.UNRECORDED)
        assert tell(more) == ("main", "", "nobody", "client_secret", "", "failed", "400")
        # others are seen meanwhile, and the same one in the next window
        self.wrong(api, "192.0.2.1")
        assert seen(api, "tokens.create")[-1].address == "192.0.2.1"
        api.later(15 * 60)
        self.wrong(api)
        assert seen(api, "tokens.create")[-1].address == "127.0.0.1"

    def test_so_do_all_of_them_together(self, api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(entrances, "REFUSALS_IN_ALL", 20)
        for number in range(40):
            self.wrong(api, f"192.0.2.{number}")
        assert len(seen(api, "tokens.create")) == 20
        assert len(seen(api, entrances.UNRECORDED)) == 1
        api.later(15 * 60)
        self.wrong(api)
        assert len(seen(api, "tokens.create")) == 21

    def test_past_them_a_refusal_costs_two_reads_and_no_write(self, api: Api) -> None:
        for _ in range(entrances.REFUSALS_FROM_ONE + 1):
            self.wrong(api)
        assert cost(lambda: self.wrong(api)).statements == 2  # the service account, and whether there were too many

    def test_what_succeeds_is_written_all_the_same(self, api: Api, person: str) -> None:
        for _ in range(entrances.REFUSALS_FROM_ONE + 5):
            self.wrong(api)
        Browser(api).sign_in(person)
        assert len(seen(api, "sessions.create")) == 1


def decided(api: Api, person: str) -> httpx2.Response:
    """A signed-in person's yes."""
    browser, page = Browser(api), path_of(started(api)["verification_uri_complete"])
    browser.sign_in(person, path=page)
    browser.get(page)
    return browser.post("/device", workspace="main", decision="approve")


def test_nothing_that_was_refused_is_shown_to_members(api: Api) -> None:
    api.post(TOKEN, {**CLIENT, "client_id": "x", "client_secret": "x"}, headers=NOBODY)
    assert_problem(api.get("/v0/audit", headers=bearer(MEMBER)), 403, "FORBIDDEN")


WRITERS: Final[tuple[tuple[str, Callable[[Api, str], httpx2.Response]], ...]] = (
    ("sessions.create", lambda api, person: Browser(api).sign_in(person)),
    ("devices.approve", decided),
    ("tokens.revoke", lambda api, _: api.post(REVOKE, {"token": token(api, program(api))}, headers=NOBODY)),
    ("uploads.accept", lambda api, _: api.upload(api.post("/v0/jobs?upload=true", {"metadata": {"name": "a"}}))),
)


@pytest.mark.parametrize(("action", "does"), WRITERS, ids=[action for action, _ in WRITERS])
def test_a_row_that_cannot_be_written_takes_what_was_done_along(
    api: Api, person: str, action: str, does: Callable[[Api, str], httpx2.Response], monkeypatch: pytest.MonkeyPatch
) -> None:
    real = audit.append

    def failing(connection: Any, entry: AuditEntry, mac: Mac) -> None:
        if entry.action == action:
            raise ValueError("no row")
        real(connection, entry, mac)

    monkeypatch.setattr(audit, "append", failing)
    tables = {
        "sessions.create": "SELECT count(*) FROM browser_session",
        "devices.approve": "SELECT count(*) FROM device_code WHERE account != ''",
        "tokens.revoke": "SELECT count(*) FROM ended_token",
        "uploads.accept": "SELECT count(*) FROM build",
    }
    assert does(api, person).status_code == 500
    count = api.parts.database.read(lambda connection: connection.scalar(text(tables[action])))
    assert count == 0
