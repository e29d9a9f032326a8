"""The audit: one row for each change, refusal and read of secrets; who sees it; and what never gets into it."""

import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import httpx2
import pytest
from sqlalchemy import text

from tests.api.asking import ADMIN, MEMBER, STRANGER, Api
from tests.api.test_access import assert_problem
from tests.api.test_identity import bearer, key_of, service_account
from tests.api.test_tokens import program, token
from tidemill.api.audited import action_of
from tidemill.api.scopes import SCOPES
from tidemill.model.principal import Role
from tidemill.service.audit import key_of as mac_of
from tidemill.store import audit
from tidemill.store.database import Connection, Database

MUTATING: Final = sorted(route for route in SCOPES if route[0] != "GET")


def rows(api: Api, query: str = "", key: str = ADMIN) -> list[dict[str, Any]]:
    answer = api.get(f"/v0/audit?limit=200&{query}", headers={"Authorization": f"Bearer {key}"})
    assert answer.status_code == 200, answer.text
    found: list[dict[str, Any]] = answer.json()["data"]
    return found


def all_rows(api: Api) -> list[Any]:
    """Of every workspace, oldest first."""
    query = text("SELECT * FROM audit ORDER BY number")
    return api.parts.database.read(lambda connection: list(connection.execute(query)))


def whole(api: Api) -> list[str]:
    """What is wrong with the chain."""
    mac = mac_of(api.parts.keyring)
    return list(api.parts.database.read(lambda connection: audit.check(connection, mac)).violations)


def tell(row: dict[str, Any]) -> tuple[str, str, str, int]:
    return row["action"], row["resource"], row["outcome"], row["status"]


@pytest.mark.parametrize(("method", "path"), MUTATING)
def test_every_changing_request_leaves_one_row_whatever_becomes_of_it(api: Api, method: str, path: str) -> None:
    asked = re.sub(r"\{[^}]*\}", "nothing", path.replace("{workspace_in_path}", "main"))
    asked = asked.replace("/workspaces/nothing", "/workspaces/main")
    answer = api.request(method, asked, content=b'{"surprise": 1}')
    (row,) = all_rows(api)
    outcome = {200: "success", 403: "refused"}.get(answer.status_code, "failed")
    resource = asked.removeprefix("/v0").removeprefix("/main").strip("/")
    assert (row.outcome, row.status) == (outcome, answer.status_code)
    assert row.action == action_of(method, path)
    assert row.resource == resource or row.resource.startswith(f"{resource}/")
    assert row.request == answer.headers["x-request-id"]
    assert whole(api) == []


@pytest.mark.parametrize(("method", "path"), sorted(SCOPES))
def test_every_refusal_for_want_of_a_right_leaves_one_row(api: Api, method: str, path: str) -> None:
    asked = re.sub(r"\{[^}]*\}", "nothing", path.replace("{workspace_in_path}", "main"))
    asked = asked.replace("/workspaces/nothing", "/workspaces/main")
    answer = api.request(method, asked, headers=bearer(MEMBER), content=b"{}")
    refused = [row for row in all_rows(api) if row.outcome == "refused"]
    assert [(row.status, row.action, row.actor) for row in refused] == (
        [(403, action_of(method, path), "user-member@example.org")] if answer.status_code == 403 else []
    )


class TestActions:
    """What each change is called, and that what it made is named."""

    def test_of_jobs_and_executions(self, api: Api) -> None:
        api.deployed("sweep")
        api.put("/v0/jobs/sweep", {"metadata": {"labels": {"a": "b"}}})
        made = api.post("/v0/jobs/sweep/executions", {"tasks": [{}] * 2}).json()["executionId"]
        other = api.post("/main/jobs/sweep/executions", {}).json()["executionId"]
        one = f"jobs/sweep/executions/{made}"
        api.run_task(made, 0)
        api.delete(f"/v0/{one}?force=true")
        again = api.post(f"/v0/{one}/rerun", {"select": "not_succeeded"})
        api.delete("/v0/jobs/sweep")
        assert [tell(row) for row in reversed(rows(api))] == [
            ("jobs.create", "jobs/sweep", "success", 200),
            ("uploads.accept", "jobs/sweep", "success", 200),
            ("jobs.update", "jobs/sweep", "success", 200),
            ("executions.create", one, "success", 200),
            ("executions.create", f"jobs/sweep/executions/{other}", "success", 200),
            ("executions.cancel", one, "success", 200),
            ("executions.rerun", *rerun_row(one, again)),
            ("jobs.delete", "jobs/sweep", "success", 200),
        ]

    def test_of_people_service_accounts_and_keys(self, api: Api) -> None:
        account = service_account(api)["client_id"]
        path = f"service_accounts/{account}"
        key = key_of(api, account)["id"]
        api.put(f"/v0/{path}", {"name": "cd"})
        api.delete(f"/v0/{path}/api_keys/{key}")
        api.delete(f"/v0/{path}")
        own = api.post("/v0/profile/api_keys", {"name": "mine"}).json()["id"]
        api.delete(f"/v0/profile/api_keys/{own}")
        sub = api.post("/v0/users", {"email": "ada@example.org"}).json()["sub"]
        api.put("/v0/users/ada@example.org", {"role": "admin"})
        api.delete(f"/v0/users/{sub}")
        assert [tell(row)[:2] for row in reversed(rows(api, "outcome=success"))] == [
            ("service_accounts.create", path),
            ("api_keys.create", f"{path}/api_keys/{key}"),
            ("service_accounts.update", path),
            ("api_keys.delete", f"{path}/api_keys/{key}"),
            ("service_accounts.delete", path),
            ("api_keys.create", f"profile/api_keys/{own}"),
            ("api_keys.delete", f"profile/api_keys/{own}"),
            ("users.create", f"users/{sub}"),
            ("users.update", "users/ada@example.org"),
            ("users.delete", f"users/{sub}"),
        ]
        assert {row["outcome"] for row in rows(api)} == {"success"}

    def test_of_workspaces(self, api: Api) -> None:
        api.post("/v0/workspaces", {"name": "fresh"})
        here = {"X-Blaxel-Workspace": "main"}
        api.person("member@example.org", Role.ADMIN, MEMBER, workspace="fresh")
        api.put("/v0/workspaces/fresh", {"displayName": "Fresh"})
        api.delete("/v0/workspaces/fresh/leave", headers=bearer(MEMBER))
        seen = api.get("/v0/audit", headers={"X-Blaxel-Workspace": "fresh"}).json()["data"]
        assert [tell(row)[:2] for row in reversed(seen)] == [
            ("workspaces.create", "workspaces/fresh"),
            ("workspaces.update", "workspaces/fresh"),
            ("workspaces.leave", "workspaces/fresh/leave"),
        ]
        assert api.delete("/v0/workspaces/fresh").status_code == 200
        assert all_rows(api)[-1].action == "workspaces.delete"
        assert api.get("/v0/audit", headers=here).json()["data"] == []


def rerun_row(one: str, answer: httpx2.Response) -> tuple[str, str, int]:
    assert answer.status_code in {200, 409}, answer.text
    if answer.status_code == 409:
        return f"{one}/rerun", "failed", 409
    return f"{one}/rerun/{answer.json()['executionId']}", "success", 200


def test_a_row_says_who_with_what_from_where_and_when(api: Api) -> None:
    api.later(5)
    answer = api.post("/v0/jobs?upload=true", {"metadata": {"name": "sweep"}})
    (row,) = rows(api)
    (actor,) = [each["sub"] for each in api.get("/v0/users").json() if each["email"] == "admin@main"]
    assert row == {
        "createdAt": "2026-11-23T12:00:05.000000Z",
        "actor": actor,
        "actorType": "user",
        "credential": "api_key",
        "action": "jobs.create",
        "resource": "jobs/sweep",
        "outcome": "success",
        "status": 200,
        "address": "127.0.0.1",
        "requestId": answer.headers["x-request-id"],
    }
    key = key_of(api, service_account(api, role="admin")["client_id"])["apiKey"]
    api.delete("/v0/jobs/sweep", headers=bearer(key))
    assert rows(api)[0]["actorType"] == "service_account"


def test_reads_are_not_audited_but_those_of_secrets_are(api: Api) -> None:
    api.deployed(envs=[{"name": "TOKEN", "value": "s3cret", "secret": True}])
    before = len(rows(api))
    api.get("/v0/jobs/sweep")
    api.get("/v0/jobs/sweep?show_secrets=false")
    api.get("/v0/jobs/none")
    assert len(rows(api)) == before
    assert api.get("/v0/jobs/sweep?show_secrets=true").status_code == 200
    assert tell(rows(api)[0]) == ("jobs.read_secrets", "jobs/sweep", "success", 200)
    api.get("/v0/jobs/sweep?show_secrets=true", headers=bearer(MEMBER))
    assert tell(rows(api)[0]) == ("jobs.read_secrets", "jobs/sweep", "refused", 403)
    assert len(rows(api)) == before + 2


def test_secrets_are_not_shown_when_it_cannot_be_written_down(api: Api) -> None:
    api.deployed(envs=[{"name": "TOKEN", "value": "s3cret", "secret": True}])

    def full(connection: Connection) -> None:
        pages = connection.exec_driver_sql("PRAGMA page_count").scalar_one()
        connection.exec_driver_sql(f"PRAGMA max_page_count={pages}").scalar_one()

    api.parts.database.write(full)
    answers = [api.get("/v0/jobs/sweep?show_secrets=true") for _ in range(200)]
    full_at = next(number for number, answer in enumerate(answers) if answer.status_code != 200)
    assert_problem(answers[full_at], 503, "OUT_OF_SPACE")
    assert "s3cret" not in answers[full_at].text
    assert api.get("/v0/jobs/sweep").status_code == 200
    shown = [answer for answer in answers if answer.status_code == 200]
    assert len([row for row in all_rows(api) if row.action == "jobs.read_secrets"]) == len(shown)


def test_somebody_who_does_not_reach_a_workspace_is_seen_by_its_admins(api: Api) -> None:
    api.get("/v0/jobs", headers=bearer(STRANGER, "main"))
    api.get("/v0/workspaces/main", headers=bearer(STRANGER))
    api.get("/v0/jobs", headers=bearer(STRANGER, "nowhere"))
    assert [tell(row) for row in reversed(rows(api))] == [
        ("jobs.read", "jobs", "refused", 403),
        ("workspaces.read", "workspaces/main", "refused", 404),
    ]
    assert [row.workspace for row in all_rows(api)] == ["main", "main", ""]
    # nobody gets rows from before the workspace was
    assert api.post("/v0/workspaces", {"name": "nowhere"}).status_code == 200
    seen = api.get("/v0/audit", headers={"X-Blaxel-Workspace": "nowhere"}).json()["data"]
    assert [row["action"] for row in seen] == ["workspaces.create"]


def test_a_token_is_named_as_what_it_is_also_where_it_reaches_nothing(api: Api) -> None:
    access = token(api, program(api, role="admin"))
    api.delete("/v0/jobs/none", headers=bearer(access))
    api.get("/v0/jobs", headers=bearer(access, "other"))
    done, refused = all_rows(api)[-2:]
    assert (done.workspace, done.outcome, done.credential) == ("main", "failed", "token")
    assert (refused.workspace, refused.outcome, refused.credential) == ("other", "refused", "token")
    assert done.actor == refused.actor


def test_without_a_good_credential_nothing_is_audited(api: Api) -> None:
    assert api.delete("/v0/jobs/sweep", headers=bearer("tm_wrong")).status_code == 401
    assert api.delete("/v0/jobs/sweep", headers={"Authorization": None}).status_code == 401
    assert all_rows(api) == []


def test_a_request_that_is_repeated_names_the_execution_that_is_there(api: Api) -> None:
    api.deployed()
    for body in ({}, {"tasks": [{"text": "x" * 70_000}]}):
        key = {"Idempotency-Key": f"key-{len(body)}"}
        made = [api.post("/v0/jobs/sweep/executions", body, headers=key).json()["executionId"] for _ in range(2)]
        assert made[0] == made[1]
        assert [row["resource"] for row in rows(api)[:2]] == [f"jobs/sweep/executions/{made[0]}"] * 2


def test_an_execution_with_many_inputs_has_one_row(api: Api) -> None:
    api.deployed()
    noise = os.urandom(400_000).hex()
    body = {"tasks": [{"text": f"{noise}{number}"[number:]} for number in range(12)]}
    before = len(all_rows(api))
    assert api.post("/v0/jobs/sweep/executions", body).status_code == 200
    assert len(all_rows(api)) == before + 1


def test_members_do_not_read_it_and_admins_see_their_workspace_only(api: Api) -> None:
    api.post("/v0/jobs?upload=true", {"metadata": {"name": "ours"}})
    api.post("/v0/jobs?upload=true", {"metadata": {"name": "theirs"}}, headers=bearer(STRANGER))
    assert_problem(api.get("/v0/audit", headers=bearer(MEMBER)), 403, "FORBIDDEN")
    assert_problem(api.get("/v0/audit", headers=bearer(STRANGER, "main")), 403, "FORBIDDEN")
    assert {row["resource"] for row in rows(api)} == {"jobs/ours", "audit"}
    assert [row["resource"] for row in rows(api, key=STRANGER)] == ["jobs/theirs"]
    cursor = api.get("/v0/audit?limit=1").json()["meta"]["nextCursor"]
    assert_problem(api.get(f"/v0/audit?limit=1&cursor={cursor}", headers=bearer(STRANGER)), 400, "INVALID")


def test_filters(api: Api) -> None:
    for name in ("sweep", "sweeper", "other"):
        api.deployed(name)
        api.later(60)
    run = api.post("/v0/jobs/sweep/executions", {}, headers=bearer(MEMBER)).json()["executionId"]
    one = f"jobs/sweep/executions/{run}"

    def found(query: str) -> list[str]:
        return [row["resource"] for row in rows(api, query)]

    assert found("resource=jobs/sweep") == [one, "jobs/sweep", "jobs/sweep"]
    assert found(f"resource=/{one}/") == [one]
    assert found("resource=jobs/swe") == []
    assert found("actor=user-member@example.org") == [one]
    assert found("action=jobs.create") == ["jobs/other", "jobs/sweeper", "jobs/sweep"]
    assert found("action=jobs.create&resource=jobs/sweep") == ["jobs/sweep"]
    times = "start=2026-11-23T12:01:00Z&end=2026-11-23T12:03:00"
    assert found(f"action=jobs.create&{times}") == ["jobs/other", "jobs/sweeper"]
    assert found("start=2026-11-24T00:00:00") == []
    for query in ("start=x", "end=2026-13-01", "sort=name:asc", "sort=createdAt:asc", "limit=0"):
        assert_problem(api.get(f"/v0/audit?{query}"), 400, "INVALID")


def test_pages_hold_every_row_once_also_where_many_are_of_one_moment(api: Api) -> None:
    for number in range(7):
        api.post("/v0/jobs?upload=true", {"metadata": {"name": f"job-{number}"}})
    found, cursor = list[str](), ""
    for version in (None, "2026-04-28", None, None):
        answer = api.get(f"/v0/audit?limit=2&action=jobs.create&cursor={cursor}", headers={"Blaxel-Version": version})
        found += [row["resource"] for row in answer.json()["data"]]
        cursor = answer.json()["meta"]["nextCursor"]
        assert answer.json()["meta"]["hasMore"] == bool(cursor)
    assert found == [f"jobs/job-{number}" for number in reversed(range(7))]
    assert cursor == ""
    first = api.get("/v0/audit?limit=2").json()["meta"]["nextCursor"]
    assert_problem(api.get(f"/v0/audit?limit=2&action=jobs.create&cursor={first}"), 400, "INVALID")


def test_no_secret_gets_into_it(api: Api) -> None:
    canary = "canary-8c1f"
    envs = [{"name": "TOKEN", "value": canary, "secret": True}, {"name": "PLAIN", "value": canary}]
    api.deployed(envs=envs)
    api.put("/v0/jobs/sweep", {"spec": {"runtime": {"envs": envs}}})
    api.post("/v0/jobs/sweep/executions", {"tasks": [{"t": canary}], "env": {"K": canary}})
    api.post("/v0/jobs/sweep/executions", {"tasks": canary})
    api.get("/v0/jobs/sweep?show_secrets=true")
    made = service_account(api, description=canary)
    key = key_of(api, made["client_id"])["apiKey"]
    api.post("/v0/service_accounts", {"name": "x", "description": canary}, headers=bearer(key))
    kept = "\n".join(str(tuple(row)) for row in all_rows(api))
    assert kept.count("sweep") >= 5
    assert [secret for secret in (canary, key, made["client_secret"], ADMIN) if secret in kept] == []


class TestAtomicity:
    def test_a_row_that_cannot_be_written_takes_its_change_along(self, api: Api) -> None:
        api.deployed()
        forbid = "CREATE TRIGGER no_more BEFORE INSERT ON audit BEGIN SELECT RAISE(ABORT, 'no row'); END"
        api.parts.database.write(lambda connection: connection.execute(text(forbid)))
        assert api.post("/v0/jobs/sweep/executions", {"executionId": "never-made"}).status_code == 500
        api.parts.database.write(lambda connection: connection.execute(text("DROP TRIGGER no_more")))
        assert api.get("/v0/executions/never-made").status_code == 404
        assert whole(api) == []

    def test_a_change_that_fails_leaves_a_row_that_says_so_and_no_break(self, api: Api) -> None:
        api.deployed()
        for _ in range(2):
            api.post("/v0/jobs?upload=true", {"metadata": {"name": "sweep"}})
            api.delete("/v0/jobs/none")
        assert [tell(row) for row in rows(api)[:2]] == [
            ("jobs.delete", "jobs/none", "failed", 404),
            ("jobs.create", "jobs", "failed", 409),
        ]
        assert whole(api) == []

    def test_a_kill_leaves_change_and_row_together_or_neither(self, tmp_path: Path, migrated: Path) -> None:
        (tmp_path / "tidemill.db").write_bytes(migrated.read_bytes())
        words = [sys.executable, "-c", KILLED, str(tmp_path)]
        root = Path(__file__).resolve().parents[2]
        writer = subprocess.Popen(words, stdout=subprocess.PIPE, text=True, cwd=root)
        assert writer.stdout is not None
        answered = [writer.stdout.readline().strip() for _ in range(40)]
        os.kill(writer.pid, signal.SIGKILL)
        answered += writer.stdout.read().split()
        writer.wait(10)
        writer.stdout.close()
        database = Database(tmp_path / "tidemill.db")
        made = database.read(names("SELECT name FROM job"))
        told = database.read(names("SELECT substr(resource, 6) FROM audit"))
        database.close()
        assert set(answered) <= made
        assert made == told


KILLED = """
import sys
from pathlib import Path
from tests.api.asking import opened
api = opened(Path(sys.argv[1]))
for number in range(1_000_000):
    api.post("/v0/jobs?upload=true", {"metadata": {"name": f"job-{number}"}}).raise_for_status()
    print(f"job-{number}", flush=True)
"""


def names(query: str) -> Callable[[Connection], set[str]]:
    return lambda connection: set(connection.scalars(text(query)))


def test_a_bug_is_audited_as_a_failure(api: Api) -> None:
    api.context = replace(api.context, parts=replace(api.parts, regions=None))  # type: ignore[arg-type]  # the bug
    answer = api.post("/v0/jobs?upload=true", {"metadata": {"name": "sweep"}})
    assert answer.status_code == 500
    assert tell(rows(api)[0]) == ("jobs.create", "jobs", "failed", 500)
