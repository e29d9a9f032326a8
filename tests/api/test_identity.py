"""Users, service accounts, API keys and workspaces: who makes them, what each reaches, and when it ends."""

from typing import Any

import pytest

from tests.api.asking import ADMIN, MEMBER, STRANGER, Api
from tests.api.test_access import assert_problem
from tidemill.model.principal import Role

ACCOUNTS = "/v0/service_accounts"
OWN = "/v0/profile/api_keys"


def bearer(key: str, workspace: str | None = None) -> dict[str, Any]:
    return {"Authorization": f"Bearer {key}", "X-Blaxel-Workspace": workspace}


def service_account(api: Api, **more: str) -> dict[str, str]:
    answer = api.post(ACCOUNTS, {"name": "ci", **more})
    assert answer.status_code == 200, answer.text
    made: dict[str, str] = answer.json()
    return made


def key_of(api: Api, account: str, **more: str) -> dict[str, str]:
    answer = api.post(f"{ACCOUNTS}/{account}/api_keys", {"name": "deploy", **more})
    assert answer.status_code == 200, answer.text
    made: dict[str, str] = answer.json()
    return made


class TestServiceAccounts:
    def test_its_secret_is_in_one_answer_only_and_nowhere_in_the_ledger(self, api: Api) -> None:
        made = service_account(api, description="builds")
        secret = made.pop("client_secret")
        assert len(secret) > 40
        (listed,) = api.get(ACCOUNTS).json()
        assert listed == made
        assert listed.keys() == {"client_id", "name", "description", "role", "created_at", "updated_at"}
        changed = api.put(f"{ACCOUNTS}/{made['client_id']}", {"name": "cd"}).json()
        assert (changed["name"], changed["description"], changed["role"]) == ("cd", "builds", "member")
        assert secret not in api.get(ACCOUNTS).text
        files = [path.read_bytes() for path in api.parts.arrivals.parent.rglob("*") if path.is_file()]
        assert files
        assert not any(secret.encode() in held for held in files)

    def test_its_key_reaches_its_workspace_and_no_other(self, api: Api) -> None:
        key = key_of(api, service_account(api)["client_id"])["apiKey"]
        assert api.get("/v0/jobs", headers=bearer(key)).status_code == 200
        assert [each["name"] for each in api.get("/v0/workspaces", headers=bearer(key)).json()] == ["main"]
        assert_problem(api.get("/v0/jobs", headers=bearer(key, "other")), 403, "FORBIDDEN")
        assert_problem(api.get("/v0/workspaces/other", headers=bearer(key)), 404, "NOT_FOUND")

    def test_it_has_the_role_that_it_was_made_with(self, api: Api) -> None:
        member = key_of(api, service_account(api)["client_id"])["apiKey"]
        admin = key_of(api, service_account(api, role="admin")["client_id"])["apiKey"]
        assert "workspaces:update" in assert_problem(api.get(ACCOUNTS, headers=bearer(member)), 403, "FORBIDDEN")
        assert api.get(ACCOUNTS, headers=bearer(admin)).status_code == 200

    def test_deleting_it_ends_its_keys_at_once(self, api: Api) -> None:
        made = service_account(api)
        key = key_of(api, made["client_id"])["apiKey"]
        gone = api.delete(f"{ACCOUNTS}/{made['client_id']}")
        assert gone.json()["client_id"] == made["client_id"]
        assert_problem(api.get("/v0/jobs", headers=bearer(key)), 401, "UNAUTHORIZED")
        assert_problem(api.delete(f"{ACCOUNTS}/{made['client_id']}"), 404, "NOT_FOUND")

    def test_those_of_another_workspace_are_not_there(self, api: Api) -> None:
        made = service_account(api)
        stranger = bearer(STRANGER)
        path = f"{ACCOUNTS}/{made['client_id']}"
        assert api.get(ACCOUNTS, headers=stranger).json() == []
        assert_problem(api.put(path, {"name": "mine"}, headers=stranger), 404, "NOT_FOUND")
        assert_problem(api.delete(path, headers=stranger), 404, "NOT_FOUND")
        assert_problem(api.get(f"{path}/api_keys", headers=stranger), 404, "NOT_FOUND")
        assert_problem(api.post(f"{path}/api_keys", {"name": "x"}, headers=stranger), 404, "NOT_FOUND")
        assert api.get(ACCOUNTS).json()[0]["name"] == "ci"

    def test_it_can_neither_make_nor_leave_a_workspace_nor_keys_for_itself(self, api: Api) -> None:
        key = key_of(api, service_account(api, role="admin")["client_id"])["apiKey"]
        assert_problem(api.post("/v0/workspaces", {"name": "fresh"}, headers=bearer(key)), 403, "FORBIDDEN")
        assert_problem(api.delete("/v0/workspaces/main/leave", headers=bearer(key)), 403, "FORBIDDEN")
        assert_problem(api.post(OWN, {"name": "again"}, headers=bearer(key)), 403, "FORBIDDEN")

    @pytest.mark.parametrize(
        ("body", "path"),
        [
            ({}, "name"),
            ({"name": ""}, "name"),
            ({"name": "x" * 64}, "name"),
            ({"name": 7}, "name"),
            ({"name": "ci", "role": "owner"}, "role"),
            ({"name": "ci", "description": 1}, "description"),
        ],
    )
    def test_a_wrong_body_is_told_and_nothing_is_made(self, api: Api, body: dict[str, object], path: str) -> None:
        assert path in assert_problem(api.post(ACCOUNTS, body), 400, "INVALID")
        assert api.get(ACCOUNTS).json() == []


class TestApiKeys:
    def test_a_key_is_whole_in_one_answer_only(self, api: Api) -> None:
        account = service_account(api)["client_id"]
        made = key_of(api, account, expires_in="30d")
        (listed,) = api.get(f"{ACCOUNTS}/{account}/api_keys").json()
        assert made["apiKey"].startswith(listed["apiKey"].rstrip("*"))
        assert made["apiKey"] not in api.get(f"{ACCOUNTS}/{account}/api_keys").text
        assert (listed["sub"], listed["sub_type"], listed["expires_in"]) == (account, "service_account", "30d")
        assert listed["expiresAt"].startswith("2026-12-23T12:00")

    def test_it_ends_when_its_time_is_over(self, api: Api) -> None:
        key = key_of(api, service_account(api)["client_id"], expires_in="24h")["apiKey"]
        api.later(24 * 3600 - 1)
        assert api.get("/v0/jobs", headers=bearer(key)).status_code == 200
        api.later(1)
        assert_problem(api.get("/v0/jobs", headers=bearer(key)), 401, "UNAUTHORIZED")

    def test_it_ends_at_once_when_it_is_deleted_and_others_do_not(self, api: Api) -> None:
        account = service_account(api)["client_id"]
        one, other = key_of(api, account), key_of(api, account)
        assert api.delete(f"{ACCOUNTS}/{account}/api_keys/{one['id']}").status_code == 200
        assert_problem(api.get("/v0/jobs", headers=bearer(one["apiKey"])), 401, "UNAUTHORIZED")
        assert api.get("/v0/jobs", headers=bearer(other["apiKey"])).status_code == 200
        assert_problem(api.delete(f"{ACCOUNTS}/{account}/api_keys/{one['id']}"), 404, "NOT_FOUND")

    def test_its_last_use_is_known_to_the_minute(self, api: Api) -> None:
        account = service_account(api)["client_id"]
        key = key_of(api, account)["apiKey"]

        def last_used() -> str | None:
            found: str | None = api.get(f"{ACCOUNTS}/{account}/api_keys").json()[0].get("lastUsedAt")
            return found

        assert last_used() is None
        api.get("/v0/jobs", headers=bearer(key))
        first = last_used()
        assert first is not None
        api.later(30)
        api.get("/v0/jobs", headers=bearer(key))
        assert last_used() == first
        api.later(30)
        api.get("/v0/jobs", headers=bearer(key))
        assert last_used() != first

    @pytest.mark.parametrize(
        "text", ["0d", "-1d", "1", "d", "1y", "1 d", "3651d", "522w", "99999999999999999999d", "\u0661d"]
    )
    def test_a_wrong_lifetime_is_told(self, api: Api, text: str) -> None:
        account = service_account(api)["client_id"]
        answer = api.post(f"{ACCOUNTS}/{account}/api_keys", {"name": "x", "expires_in": text})
        assert "expires_in" in assert_problem(answer, 400, "INVALID")
        assert api.get(f"{ACCOUNTS}/{account}/api_keys").json() == []

    def test_a_user_has_keys_of_their_own_that_admins_do_not_see(self, api: Api) -> None:
        member = bearer(MEMBER)
        made = api.post(OWN, {"name": "laptop"}, headers=member).json()
        assert (made["sub_type"], made["name"]) == ("user", "laptop")
        assert api.get("/v0/jobs", headers=bearer(made["apiKey"])).status_code == 200
        assert len(api.get(OWN, headers=member).json()) == 2
        assert len(api.get(OWN).json()) == 1
        assert_problem(api.delete(f"{OWN}/{made['id']}"), 404, "NOT_FOUND")
        assert api.delete(f"{OWN}/{made['id']}", headers=member).status_code == 200
        assert_problem(api.get("/v0/jobs", headers=bearer(made["apiKey"])), 401, "UNAUTHORIZED")


class TestUsers:
    def test_an_admin_adds_changes_and_removes_people(self, api: Api) -> None:
        added = api.post("/v0/users", {"email": "Ada@Example.org"}).json()
        assert (added["email"], added["role"], added["accepted"]) == ("ada@example.org", "member", False)
        assert [each["email"] for each in api.get("/v0/users").json()] == [
            "ada@example.org",
            "admin@main",
            "member@example.org",
        ]
        assert api.put("/v0/users/ada@example.org", {"role": "admin"}).json()["role"] == "admin"
        assert api.delete(f"/v0/users/{added['sub']}").json()["sub"] == added["sub"]
        assert_problem(api.delete(f"/v0/users/{added['sub']}"), 404, "NOT_FOUND")
        assert_problem(api.post("/v0/users", {"email": "member@example.org"}), 409, "ALREADY_EXISTS")

    def test_somebody_removed_reaches_the_workspace_no_more_but_keeps_others(self, api: Api) -> None:
        api.person("member@example.org", Role.MEMBER, MEMBER, workspace="other")
        assert api.get("/v0/jobs", headers=bearer(MEMBER, "main")).status_code == 200
        api.delete("/v0/users/member@example.org")
        assert_problem(api.get("/v0/jobs", headers=bearer(MEMBER, "main")), 403, "FORBIDDEN")
        assert api.get("/v0/jobs", headers=bearer(MEMBER)).status_code == 200

    def test_the_last_admin_can_be_neither_removed_nor_made_a_member_nor_leave(self, api: Api) -> None:
        for answer in (
            api.delete("/v0/users/admin@main"),
            api.put("/v0/users/admin@main", {"role": "member"}),
            api.delete("/v0/workspaces/main/leave"),
        ):
            assert "last admin" in assert_problem(answer, 409, "CONFLICT")
        api.put("/v0/users/member@example.org", {"role": "admin"})
        assert api.delete("/v0/workspaces/main/leave").status_code == 200
        assert_problem(api.get("/v0/jobs"), 403, "FORBIDDEN")

    def test_a_member_sees_and_changes_none_of_it(self, api: Api) -> None:
        member = bearer(MEMBER)
        for method, path in (
            ("GET", "/v0/users"),
            ("POST", "/v0/users"),
            ("PUT", "/v0/users/admin@main"),
            ("DELETE", "/v0/users/admin@main"),
            ("GET", ACCOUNTS),
            ("POST", ACCOUNTS),
            ("PUT", "/v0/workspaces/main"),
            ("DELETE", "/v0/workspaces/main"),
            ("POST", "/v0/workspaces"),
        ):
            assert_problem(api.request(method, path, content=b"{}", headers=member), 403, "FORBIDDEN")

    def test_people_of_another_workspace_are_not_there(self, api: Api) -> None:
        assert_problem(api.put("/v0/users/admin@other", {"role": "member"}), 404, "NOT_FOUND")
        assert_problem(api.delete("/v0/users/admin@other"), 404, "NOT_FOUND")

    @pytest.mark.parametrize(
        "body", [{}, {"email": "nobody"}, {"email": "a b@c"}, {"email": 7}, {"email": "a@b", "role": 1}]
    )
    def test_a_wrong_body_is_told(self, api: Api, body: dict[str, object]) -> None:
        assert_problem(api.post("/v0/users", body), 400, "INVALID")
        assert len(api.get("/v0/users").json()) == 2


class TestWorkspaces:
    def test_a_user_makes_one_and_is_its_admin(self, api: Api) -> None:
        made = api.post("/v0/workspaces", {"name": "lab", "displayName": "The lab", "labels": {"team": "blue"}}).json()
        assert (made["name"], made["displayName"], made["labels"]) == ("lab", "The lab", {"team": "blue"})
        assert [each["name"] for each in api.get("/v0/workspaces").json()] == ["lab", "main"]
        changed = api.put("/v0/workspaces/lab", {"displayName": "Our lab", "status": "error", "id": 7}).json()
        assert (changed["displayName"], changed["labels"], changed["status"]) == ("Our lab", {"team": "blue"}, "ready")
        assert api.get("/v0/workspaces/lab?countResources=true").json()["resourceCounts"] == {"jobs": 0}

    def test_who_reaches_several_names_one(self, api: Api) -> None:
        api.post("/v0/workspaces", {"name": "lab"})
        assert "X-Blaxel-Workspace" in assert_problem(api.get("/v0/jobs"), 400, "INVALID")
        assert api.get("/v0/jobs", headers={"X-Blaxel-Workspace": "lab"}).status_code == 200
        assert api.get("/v0/jobs?workspace=main").status_code == 200

    def test_jobs_of_one_are_not_those_of_the_other(self, api: Api) -> None:
        api.deployed()
        api.post("/v0/workspaces", {"name": "lab"})
        assert_problem(api.get("/v0/jobs/sweep?workspace=lab"), 404, "NOT_FOUND")
        assert api.get("/v0/jobs/sweep?workspace=main").status_code == 200

    def test_a_deleted_one_is_reached_by_nobody_and_its_name_stays_taken(self, api: Api) -> None:
        api.post("/v0/workspaces", {"name": "lab"})
        lab = {"X-Blaxel-Workspace": "lab"}
        account = api.post(ACCOUNTS, {"name": "ci"}, headers=lab).json()["client_id"]
        key = api.post(f"{ACCOUNTS}/{account}/api_keys", {"name": "k"}, headers=lab).json()["apiKey"]
        assert api.delete("/v0/workspaces/lab").status_code == 200
        assert_problem(api.get("/v0/jobs", headers=bearer(key)), 401, "UNAUTHORIZED")
        assert_problem(api.get("/v0/workspaces/lab"), 404, "NOT_FOUND")
        assert_problem(api.post("/v0/workspaces", {"name": "lab"}), 409, "ALREADY_EXISTS")
        assert api.get("/v0/jobs").status_code == 200

    def test_one_with_jobs_is_not_deleted(self, api: Api) -> None:
        api.deployed()
        assert "1 jobs" in assert_problem(api.delete("/v0/workspaces/main"), 409, "CONFLICT")
        assert api.get("/v0/jobs/sweep").status_code == 200

    @pytest.mark.parametrize(
        ("name", "reason"),
        [
            ("fresh", None),
            ("main", "taken"),
            ("v0", "forbidden_reserved"),
            ("console", "forbidden_reserved"),
            ("v2", "forbidden_v_prefix"),
            ("blaxel-x", "forbidden_blaxel"),
        ],
    )
    def test_whether_a_name_can_be_had(self, api: Api, name: str, reason: str | None) -> None:
        assert api.post("/v0/workspaces/availability", {"name": name}).json() is (reason is None)
        told = api.post("/v0/workspaces/availability?withReason=true", {"name": name}).json()
        assert (told["available"], told.get("reason")) == (reason is None, reason)
        made = api.post("/v0/workspaces", {"name": name})
        assert made.status_code == {None: 200, "taken": 409}.get(reason, 400)

    @pytest.mark.parametrize("name", ["", "A", "-a", "a-", "a b", "x" * 64, "é", None, 7])
    def test_what_is_no_name_is_told(self, api: Api, name: object) -> None:
        assert "name" in assert_problem(api.post("/v0/workspaces", {"name": name}), 400, "INVALID")
        assert len(api.get("/v0/workspaces").json()) == 1


def test_the_admins_key_of_the_first_start_belongs_to_a_user(api: Api) -> None:
    (key,) = api.get(OWN, headers=bearer(ADMIN)).json()
    assert (key["name"], key["sub_type"]) == ("admin", "user")
    job = api.deployed()
    assert job["metadata"]["createdBy"] == key["sub"]
