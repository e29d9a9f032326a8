"""Tokens: what clients send for them, what they are good for, when they end, and everything that is refused."""

import base64
import hmac
import json
import re
from dataclasses import replace
from typing import Any, Final
from urllib.parse import urlencode

import httpx2
import pytest

from tests.api.asking import ADMIN, MEMBER, STRANGER, Api
from tests.api.test_access import assert_problem
from tests.api.test_identity import bearer, key_of, service_account
from tests.costs import cost
from tidemill import signing
from tidemill.api.scopes import SCOPES
from tidemill.model import principal
from tidemill.model.principal import Role
from tidemill.service import signing_keys, tokens
from tidemill.service.tokens import Approval, Tokens
from tidemill.signing import Claims, KeyPair
from tidemill.store import tokens as stored_tokens

TOKEN: Final = "/v0/oauth/token"
CLIENT: Final = {"grant_type": "client_credentials"}
# as clients do: no credential but what the body or Authorization says, and the current version
NOBODY: Final = {"Authorization": None}


def basic(client_id: str, secret: str) -> dict[str, str]:
    return {"Authorization": "Basic " + base64.b64encode(f"{client_id}:{secret}".encode()).decode()}


def program(api: Api, role: str = "member", **headers: str) -> dict[str, str]:
    """A service account: what its client sends for a token."""
    made = api.post("/v0/service_accounts", {"name": "ci", "role": role}, headers=headers).json()
    return {"client_id": made["client_id"], "client_secret": made["client_secret"]}


def given(answer: httpx2.Response) -> dict[str, Any]:
    """The answer that all clients can read."""
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"] == "application/json"
    assert answer.headers["cache-control"] == "no-store"
    found: dict[str, Any] = answer.json()
    assert found.keys() == {"access_token", "refresh_token", "expires_in", "token_type"}
    assert (found["expires_in"], found["token_type"]) == (7200, "Bearer")
    return found


def token(api: Api, credentials: dict[str, str], **more: str) -> str:
    access: str = given(api.post(TOKEN, {**CLIENT, **credentials, **more}, headers=NOBODY))["access_token"]
    return access


def signed_in(api: Api, email: str = "member@example.org", workspace: str = "main", scope: str = "") -> Tokens:
    """What a person has once they said yes to a program."""
    account = f"user-{email}"
    role = Role.MEMBER

    def unit(connection: Any) -> Tokens:
        stored_tokens.add_sign_in(connection, new)
        return pair

    yes = Approval(account=account, workspace=workspace, role=role, client="blaxel", scope=scope)
    new, pair = tokens.prepared(api.parts, yes, now=api.now[0])
    return api.parts.database.write(unit)


def refreshed(api: Api, refresh_token: str, **more: str) -> httpx2.Response:
    body = {"grant_type": "refresh_token", "refresh_token": refresh_token, "client_id": "blaxel", **more}
    return api.post(TOKEN, body, headers=NOBODY)


def claims(access: str) -> dict[str, Any]:
    """As the TypeScript SDK reads them, without a key."""
    payload = access.split(".")[1]
    found: dict[str, Any] = json.loads(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))
    return found


def rotated(api: Api) -> str:
    """Tokens are signed with another key from now on; its id."""
    signing = api.post("/v0/keys/signing/rotate").json()["signing"]
    (fresh,) = [key["id"] for key in signing if key["active"]]
    return str(fresh)


def refused(answer: httpx2.Response, words: str, name: str) -> str:
    """A 400 in the words of RFC 6749 that names the parameter."""
    message = assert_problem(answer, 400, "GRANT_REFUSED")
    assert answer.json()["error"] == words
    assert name in message
    return message


class TestWhatClientsSend:
    """Each caller of contract 2.3, as it does it."""

    def test_go_and_the_command_line_and_python_send_a_header_and_a_grant(self, api: Api) -> None:
        ci = program(api)
        found = given(api.post(TOKEN, CLIENT, headers=basic(ci["client_id"], ci["client_secret"])))
        assert found["refresh_token"] == ""
        assert api.get("/v0/jobs", headers=bearer(found["access_token"])).status_code == 200
        either = {"Authorization": None, "X-Blaxel-Authorization": f"Bearer {found['access_token']}"}
        assert api.get("/v0/jobs", headers={**either, "X-Blaxel-Workspace": "main"}).status_code == 200

    def test_typescript_decodes_the_times(self, api: Api) -> None:
        told = claims(token(api, program(api)))
        assert told["exp"] - told["iat"] == 7200
        assert told["iat"] == int(api.now[0].timestamp())

    def test_the_documentation_sends_all_in_the_body_and_curl_a_form(self, api: Api) -> None:
        ci = program(api)
        assert token(api, ci)
        headers = {**NOBODY, "Content-Type": "application/x-www-form-urlencoded; charset=utf-8"}
        form = urlencode({**CLIENT, **ci, "scope": "jobs:list jobs:get"}).encode()
        found = given(api.post(TOKEN, form, headers=headers))
        assert claims(found["access_token"])["scope"] == "jobs:get jobs:list"

    @pytest.mark.parametrize("more", [{}, {"device_code": "d"}, {"client_id": ""}], ids=["go", "python", "typescript"])
    def test_people_refresh(self, api: Api, more: dict[str, str]) -> None:
        first = signed_in(api)
        api.later(6600)
        second = given(refreshed(api, first.refresh, **more))
        assert second["refresh_token"] not in ("", first.refresh)
        assert api.get("/v0/jobs", headers=bearer(second["access_token"], "main")).status_code == 200
        assert claims(second["access_token"])["exp"] - api.now[0].timestamp() == 7200

    def test_go_saves_what_it_refreshed_by_reading_the_workspace(self, api: Api) -> None:
        access = signed_in(api).access
        assert api.get("/v0/workspaces/main", headers=bearer(access)).json()["name"] == "main"
        assert [each["name"] for each in api.get("/v0/workspaces", headers=bearer(access)).json()] == ["main"]


class TestWhatATokenSays:
    def test_its_claims(self, api: Api) -> None:
        ci = program(api, role="admin")
        told = claims(token(api, ci))
        assert told["iss"] == told["aud"] == api.parts.issuer
        assert (told["sub"], told["workspace"], told["role"]) == (ci["client_id"], "main", "admin")
        assert set(told["scope"].split()) == principal.SCOPES[Role.ADMIN]
        assert told["jti"] != claims(token(api, ci))["jti"]

    def test_whoever_has_the_published_keys_can_check_it(self, api: Api) -> None:
        access = token(api, program(api))
        (key,) = api.get("/v0/.well-known/jwks.json", headers=NOBODY).json()["keys"]
        assert key.keys() == {"kty", "crv", "x", "kid", "alg", "use"}
        assert signing.proven(access, key["x"], issuer=api.parts.issuer, now=api.now[0]).workspace == "main"

    def test_its_issuer_is_not_what_the_host_header_says(self, api: Api) -> None:
        ci = program(api)
        access = token(api, ci)
        answer = api.get("/v0/jobs", headers={**bearer(access), "Host": "elsewhere.test"})
        assert answer.status_code == 200
        assert claims(access)["iss"] == api.parts.issuer

    @pytest.mark.parametrize(
        "path",
        [
            "/v0/.well-known/openid-configuration",
            "/v0/.well-known/oauth-authorization-server",
            "/.well-known/oauth-authorization-server/v0",
        ],
    )
    def test_discovery_leads_to_endpoints_that_are_there(self, api: Api, path: str) -> None:
        told = api.get(path, headers=NOBODY).json()
        assert told["issuer"] == api.parts.issuer
        for name, url in told.items():
            if name.endswith("_endpoint"):
                assert api.post(url, {}, headers=NOBODY).status_code in {400, 401}, name
        assert api.get(told["jwks_uri"], headers=NOBODY).status_code == 200


class TestGrantsRefused:
    @pytest.mark.parametrize(
        ("body", "words", "name"),
        [
            ({}, "invalid_request", "grant_type"),
            ({"grant_type": ""}, "invalid_request", "grant_type"),
            ({"grant_type": 7}, "invalid_request", "grant_type"),
            ({"grant_type": "password"}, "unsupported_grant_type", "grant_type"),
            ({"grant_type": "client_credentials"}, "invalid_client", "client_id"),
            ({"grant_type": "client_credentials", "client_id": "sa-1"}, "invalid_client", "client_secret"),
            (
                {"grant_type": "client_credentials", "client_id": [], "client_secret": "x"},
                "invalid_request",
                "client_id",
            ),
            ({"grant_type": "refresh_token"}, "invalid_request", "refresh_token"),
            ({"grant_type": "refresh_token", "refresh_token": "x"}, "invalid_grant", "refresh_token"),
            (
                {"grant_type": "client_credentials", "client_id": "\ud800", "client_secret": "\ud800"},
                "invalid_request",
                "body",
            ),
            ({"grant_type": "refresh_token", "refresh_token": "tmr_\ud800.\ud800"}, "invalid_request", "body"),
            ({"grant_type": "refresh_token", "refresh_token": "tmr_a.b"}, "invalid_grant", "refresh_token"),
        ],
    )
    def test_what_is_wrong_is_named(self, api: Api, body: dict[str, object], words: str, name: str) -> None:
        refused(api.post(TOKEN, body, headers=NOBODY), words, name)

    @pytest.mark.parametrize("raw", [b"", b"[]", b"{", b"\xff", b"null"])
    def test_a_body_that_is_none(self, api: Api, raw: bytes) -> None:
        refused(api.post(TOKEN, raw, headers=NOBODY), "invalid_request", "body")

    @pytest.mark.parametrize(
        ("raw", "name"), [(b"grant_type=a&grant_type=b", "grant_type"), (b"\xff=1", "form"), (b"a=%FF", "form")]
    )
    def test_a_form_that_is_none(self, api: Api, raw: bytes, name: str) -> None:
        headers = {**NOBODY, "Content-Type": "application/x-www-form-urlencoded"}
        refused(api.post(TOKEN, raw, headers=headers), "invalid_request", name)

    def test_a_body_without_end_is_not_read(self, api: Api) -> None:
        assert_problem(api.post(TOKEN, b"x" * 65_537, headers=NOBODY), 413, "TOO_LARGE")

    def test_a_wrong_secret_and_an_unknown_client_are_told_alike(self, api: Api) -> None:
        ci = program(api)
        wrong = refused(
            api.post(TOKEN, CLIENT, headers=basic(ci["client_id"], "tms_wrong")), "invalid_client", "secret"
        )
        none = refused(api.post(TOKEN, CLIENT, headers=basic("sa-none", "tms_wrong")), "invalid_client", "secret")
        assert wrong == none

    @pytest.mark.parametrize("value", ["Basic", "Basic !", "Basic YWJj", "Basic /w==", "Basic " + "A" * 999])
    def test_a_header_that_is_no_pair(self, api: Api, value: str) -> None:
        refused(api.post(TOKEN, CLIENT, headers={"Authorization": value}), "invalid_client", "client_id")

    def test_two_clients_at_once(self, api: Api) -> None:
        ci = program(api)
        header = basic(ci["client_id"], ci["client_secret"])
        refused(api.post(TOKEN, {**CLIENT, **ci}, headers=header), "invalid_request", "client_secret")
        refused(api.post(TOKEN, {**CLIENT, "client_id": "other"}, headers=header), "invalid_client", "client_id")

    @pytest.mark.parametrize("scope", ["jobs:fly", "workspaces:update", "jobs:list workspaces:update", "admin", "*"])
    def test_a_scope_is_never_wider_than_the_role(self, api: Api, scope: str) -> None:
        answer = api.post(TOKEN, {**CLIENT, **program(api), "scope": scope}, headers=NOBODY)
        refused(answer, "invalid_scope", scope.rsplit(maxsplit=1)[-1])

    def test_no_answer_repeats_a_secret(self, api: Api) -> None:
        for name in ("client_secret", "refresh_token", "device_code"):
            answer = api.post(TOKEN, {**CLIENT, name: {"s3cret": 1}}, headers=NOBODY)
            assert name in answer.json()["message"]
            assert "s3cret" not in answer.text
        assert "s3cret" not in refreshed(api, "tmr_s3cret.s3cret").text


class TestTokensRefused:
    """Every one of them with the same words, whatever is wrong with it."""

    @pytest.fixture
    def key(self, api: Api) -> KeyPair:
        return signing_keys.active(api.parts, now=api.now[0])

    @pytest.fixture
    def good(self, api: Api) -> dict[str, Any]:
        return claims(token(api, program(api)))

    def header(self, key: KeyPair, **more: Any) -> dict[str, Any]:
        return {"alg": "EdDSA", "typ": "at+jwt", "kid": key.kid, **more}

    def refused(self, api: Api, forged: str) -> None:
        answer = api.get("/v0/jobs", headers=bearer(forged))
        assert assert_problem(answer, 401, "UNAUTHORIZED") == "this token is not known here, or has ended"
        assert api.post("/v0/oauth/introspect", {"token": forged}).json() == {"active": False}
        assert api.post("/v0/oauth/revoke", {"token": forged}, headers=NOBODY).json() == {}

    def test_the_one_that_the_others_are_made_from_is_good(self, api: Api, key: KeyPair, good: dict[str, Any]) -> None:
        assert api.get("/v0/jobs", headers=bearer(signing.encoded(self.header(key), good, key))).status_code == 200

    def test_no_algorithm(self, api: Api, key: KeyPair, good: dict[str, Any]) -> None:
        for word in ("none", "None", "NONE", ""):
            head = encoded_part(self.header(key, alg=word))
            self.refused(api, f"{head}.{encoded_part(good)}.")
            self.refused(api, f"{head}.{encoded_part(good)}.{'A' * 86}")

    def test_a_keyed_hash_with_the_public_key(self, api: Api, key: KeyPair, good: dict[str, Any]) -> None:
        raw = base64.urlsafe_b64decode(key.public + "=")
        for secret in (raw, key.public.encode()):
            signed = f"{encoded_part(self.header(key, alg='HS256'))}.{encoded_part(good)}"
            mac = base64.urlsafe_b64encode(hmac.digest(secret, signed.encode(), "sha256")).rstrip(b"=").decode()
            self.refused(api, f"{signed}.{mac}")

    def test_another_word_for_the_algorithm(self, api: Api, key: KeyPair, good: dict[str, Any]) -> None:
        signature = signing.encoded(self.header(key), good, key).split(".")[2]
        for word in ("Ed25519", "eddsa", "RS256", "ES256"):
            self.refused(api, f"{encoded_part(self.header(key, alg=word))}.{encoded_part(good)}.{signature}")

    def test_a_key_that_is_not_ours(self, api: Api, key: KeyPair, good: dict[str, Any]) -> None:
        stranger = signing.new_pair()
        self.refused(api, signing.encoded(self.header(stranger), good, stranger))
        self.refused(api, signing.encoded(self.header(key), good, stranger))
        headers = self.header(key, jwk=signing.published(key.kid, stranger.public))
        self.refused(api, f"{encoded_part(headers)}.{encoded_part(good)}.{'A' * 86}")

    @pytest.mark.parametrize(
        "wrong",
        [
            {"iss": "https://elsewhere.test/v0"},
            {"iss": ""},
            {"iss": None},
            {"aud": "https://elsewhere.test/v0"},
            {"aud": ["a", "b"]},
            {"aud": None},
            {"iat": None},
            {"exp": None},
            {"exp": "never"},
            {"exp": 1e300},
            {"exp": 10**400},
            {"nbf": "soon"},
            {"sub": 7},
            {"jti": None},
            {"workspace": ""},
            {"workspace": "other"},
            {"sub": "sa-nobody"},
            {"scope": None},
            {"sid": None},
        ],
        ids=repr,
    )
    def test_claims_that_are_wrong(
        self, api: Api, key: KeyPair, good: dict[str, Any], wrong: dict[str, object]
    ) -> None:
        members = {name: value for name, value in {**good, **wrong}.items() if value is not None}
        self.refused(api, signing.encoded(self.header(key), members, key))

    def test_not_yet_valid(self, api: Api, key: KeyPair, good: dict[str, Any]) -> None:
        for wrong in ({"nbf": good["iat"] + 60}, {"iat": good["iat"] + 60, "exp": good["exp"] + 60}):
            self.refused(api, signing.encoded(self.header(key), {**good, **wrong}, key))

    def test_longer_than_two_hours(self, api: Api, key: KeyPair, good: dict[str, Any]) -> None:
        self.refused(api, signing.encoded(self.header(key), {**good, "exp": good["exp"] + 1}, key))

    def test_another_kind_of_token(self, api: Api, key: KeyPair, good: dict[str, Any]) -> None:
        self.refused(api, signing.encoded(self.header(key, typ="JWT"), good, key))

    def test_expired_to_the_second(self, api: Api) -> None:
        access = token(api, program(api))
        api.later(7199)
        assert api.get("/v0/jobs", headers=bearer(access)).status_code == 200
        api.later(1)
        self.refused(api, access)

    def test_tampered_anywhere(self, api: Api) -> None:
        access = token(api, program(api))
        for at in (5, len(access) // 2, access.rindex(".") + 3):
            other = "A" if access[at] != "A" else "B"
            self.refused(api, access[:at] + other + access[at + 1 :])
        head, payload, signature = access.split(".")
        wider = {**claims(access), "scope": "admin", "role": "admin"}
        self.refused(api, f"{head}.{encoded_part(wider)}.{signature}")
        self.refused(api, f"{head}.{payload}.")

    @pytest.mark.parametrize(
        "text",
        [
            "ey..",
            "eyA.eyA.x",
            "ey.ey.ey",
            "eyJ9.e30.",
            "eye30.e30.e30",
            f"{'ey' * 9000}.e30.x",
            "ey\xe9.e30.x",
            "eyJbXX0.W10.x",
        ],
        ids=range(8),
    )
    def test_what_has_only_the_form(self, api: Api, text: str) -> None:
        answer = api.request(
            "GET",
            "/v0/jobs",
            headers={"Authorization": None, "X-Blaxel-Authorization": f"Bearer {text}".encode("latin-1")},
        )
        assert_problem(answer, 401, "UNAUTHORIZED")

    def test_words_that_no_text_is_made_of(self, api: Api, key: KeyPair, good: dict[str, Any]) -> None:
        for odd in ("\ud800", "\0", "x" * 3000):
            for name in ("jti", "sub", "workspace", "sid"):
                self.refused(api, f"{encoded_part(self.header(key))}.{encoded_part({**good, name: odd})}.{'A' * 86}")
            self.refused(api, f"{encoded_part(self.header(key, kid=odd))}.{encoded_part(good)}.{'A' * 86}")

    def test_a_refresh_token_is_no_access_token(self, api: Api) -> None:
        assert_problem(api.get("/v0/jobs", headers=bearer(signed_in(api).refresh)), 401, "UNAUTHORIZED")


class TestEveryRoute:
    def test_without_its_scope_is_403_that_names_it(self, api: Api) -> None:
        ci = program(api, role="admin")
        for (method, path), scope in SCOPES.items():
            others = " ".join(principal.SCOPES[Role.ADMIN] - {scope})
            answer = asked(api, method, path, token(api, ci, scope=others))
            assert scope in assert_problem(answer, 403, "FORBIDDEN"), (method, path)

    def test_one_that_is_limited_lets_nobody_in_and_gives_no_roles(self, api: Api) -> None:
        narrow = bearer(token(api, program(api, role="admin"), scope="workspaces:update"))
        other = program(api)["client_id"]
        body = {"email": "new@example.org", "role": "admin"}
        assert "limited" in assert_problem(api.post("/v0/users", body, headers=narrow), 403, "FORBIDDEN")
        for path in ("/v0/users/member@example.org", f"/v0/service_accounts/{other}"):
            answer = api.put(path, {"name": "ci", "role": "admin"}, headers=narrow)
            assert "limited" in assert_problem(answer, 403, "FORBIDDEN"), path
        assert {each["role"] for each in api.get("/v0/users").json()} == {"admin", "member"}
        assert api.put(f"/v0/service_accounts/{other}", {"name": "other"}, headers=narrow).status_code == 200

    def test_with_its_scope_alone_gets_past(self, api: Api) -> None:
        ci = program(api, role="admin")
        for (method, path), scope in SCOPES.items():
            if method == "DELETE":
                continue  # what it deletes others would miss
            answer = asked(api, method, path, token(api, ci, scope=scope))
            assert answer.status_code != 401, (method, path)
            assert "scope " not in answer.json().get("message", "") if answer.status_code == 403 else True, (
                method,
                path,
            )

    def test_expired_is_401(self, api: Api) -> None:
        access = token(api, program(api, role="admin"))
        api.later(7200)
        for method, path in SCOPES:
            assert_problem(asked(api, method, path, access), 401, "UNAUTHORIZED")

    def test_of_another_workspace_is_403_or_404(self, api: Api) -> None:
        access = token(api, program(api, role="admin"))
        for method, path in SCOPES:
            answer = asked(api, method, path, access, workspace="other")
            assert answer.status_code == (404 if "{workspace_name}" in path else 403), (method, path)


class TestEnds:
    def test_deleting_a_service_account_ends_its_tokens_at_once(self, api: Api) -> None:
        ci = program(api)
        access = token(api, ci)
        api.delete(f"/v0/service_accounts/{ci['client_id']}")
        assert_problem(api.get("/v0/jobs", headers=bearer(access)), 401, "UNAUTHORIZED")
        refused(api.post(TOKEN, {**CLIENT, **ci}, headers=NOBODY), "invalid_client", "client_id")

    def test_the_role_is_what_it_is_now(self, api: Api) -> None:
        ci = program(api, role="admin")
        access = token(api, ci)
        assert api.get("/v0/users", headers=bearer(access)).status_code == 200
        api.put(f"/v0/service_accounts/{ci['client_id']}", {"role": "member"})
        assert_problem(api.get("/v0/users", headers=bearer(access)), 403, "FORBIDDEN")
        assert api.get("/v0/jobs", headers=bearer(access)).status_code == 200

    def test_a_role_that_grew_does_not_widen_a_token(self, api: Api) -> None:
        ci = program(api)
        access = token(api, ci)
        api.put(f"/v0/service_accounts/{ci['client_id']}", {"role": "admin"})
        assert_problem(api.get("/v0/users", headers=bearer(access)), 403, "FORBIDDEN")
        assert api.get("/v0/users", headers=bearer(token(api, ci))).status_code == 200

    def test_removing_a_member_ends_their_tokens_for_good(self, api: Api) -> None:
        pair = signed_in(api)
        assert api.get("/v0/jobs", headers=bearer(pair.access)).status_code == 200
        api.delete("/v0/users/member@example.org")
        assert_problem(api.get("/v0/jobs", headers=bearer(pair.access)), 401, "UNAUTHORIZED")
        api.post("/v0/users", {"email": "member@example.org"})
        assert_problem(api.get("/v0/jobs", headers=bearer(pair.access)), 401, "UNAUTHORIZED")
        refused(refreshed(api, pair.refresh), "invalid_grant", "refresh_token")

    def test_a_deleted_workspace_ends_all_tokens_for_it(self, api: Api) -> None:
        api.post("/v0/workspaces", {"name": "lab"})
        ci = program(api, **{"X-Blaxel-Workspace": "lab"})
        access = token(api, ci)
        assert api.get("/v0/jobs", headers=bearer(access)).status_code == 200
        api.delete("/v0/workspaces/lab")
        assert_problem(api.get("/v0/jobs", headers=bearer(access)), 401, "UNAUTHORIZED")

    def test_one_that_was_revoked_is_refused_at_once_and_others_are_not(self, api: Api) -> None:
        ci = program(api)
        one, other = token(api, ci), token(api, ci)
        for _ in range(2):
            assert api.post("/v0/oauth/revoke", {"token": one}, headers=NOBODY).json() == {}
            assert_problem(api.get("/v0/jobs", headers=bearer(one)), 401, "UNAUTHORIZED")
        assert api.get("/v0/jobs", headers=bearer(other)).status_code == 200

    def test_revoking_a_refresh_token_ends_what_came_of_it(self, api: Api) -> None:
        pair, other = signed_in(api), signed_in(api)
        headers = {**NOBODY, "Content-Type": "application/x-www-form-urlencoded"}
        form = urlencode({"token": pair.refresh, "token_type_hint": "refresh_token"}).encode()
        assert api.post("/v0/oauth/revoke", form, headers=headers).status_code == 200
        assert_problem(api.get("/v0/jobs", headers=bearer(pair.access)), 401, "UNAUTHORIZED")
        refused(refreshed(api, pair.refresh), "invalid_grant", "refresh_token")
        assert refreshed(api, other.refresh).status_code == 200

    def test_what_is_no_token_is_revoked_without_an_error(self, api: Api) -> None:
        for text in ("x", "tmr_", "tmr_a.b", ADMIN, "ey.ey.ey"):
            assert api.post("/v0/oauth/revoke", {"token": text}, headers=NOBODY).json() == {}
        assert api.get("/v0/jobs").status_code == 200
        refused(api.post("/v0/oauth/revoke", {}, headers=NOBODY), "invalid_request", "token")


class TestRefresh:
    def test_a_token_used_twice_ends_the_whole_family(self, api: Api) -> None:
        first = signed_in(api)
        second = given(refreshed(api, first.refresh))
        third = given(refreshed(api, second["refresh_token"]))
        refused(refreshed(api, first.refresh), "invalid_grant", "refresh_token")
        refused(refreshed(api, third["refresh_token"]), "invalid_grant", "refresh_token")
        for access in (first.access, second["access_token"], third["access_token"]):
            assert_problem(api.get("/v0/jobs", headers=bearer(access)), 401, "UNAUTHORIZED")

    def test_of_two_at_once_one_is_given_a_pair(self, api: Api) -> None:
        """The second has looked before the first wrote: its write finds another token and changes nothing."""
        pair, now = signed_in(api), api.now[0]
        (name, _, secret) = pair.refresh.removeprefix(tokens.REFRESH_PREFIX).partition(".")
        seen = api.parts.keyring.refresh_token_digest(secret)

        def rotated(to: str) -> bool:
            return api.parts.database.write(
                lambda connection: stored_tokens.rotate(connection, name, seen, to, now=now, expires_at=now)
            )

        assert [rotated("first"), rotated("second")] == [True, False]
        held = api.parts.database.read(lambda connection: stored_tokens.find_sign_in(connection, name))
        assert held is not None
        assert held[0].refresh_digest == "first"

    def test_one_that_was_changed_is_refused(self, api: Api) -> None:
        pair = signed_in(api)
        refused(
            refreshed(api, pair.refresh[:-1] + ("A" if pair.refresh[-1] != "A" else "B")), "invalid_grant", "refresh"
        )

    def test_it_is_good_for_thirty_days_after_its_last_use(self, api: Api) -> None:
        pair = signed_in(api)
        api.later(29 * 86_400)
        again = given(refreshed(api, pair.refresh))
        api.later(30 * 86_400)
        refused(refreshed(api, again["refresh_token"]), "invalid_grant", "refresh_token")

    def test_a_scope_narrows_one_access_token_and_never_widens(self, api: Api) -> None:
        pair = signed_in(api, scope="jobs:list jobs:get offline_access")
        assert set(claims(pair.access)["scope"].split()) == {"jobs:list", "jobs:get"}
        narrow = given(refreshed(api, pair.refresh, scope="jobs:list"))
        assert claims(narrow["access_token"])["scope"] == "jobs:list"
        assert "jobs:get" in assert_problem(
            api.get("/v0/jobs/x", headers=bearer(narrow["access_token"])), 403, "FORBIDDEN"
        )
        refused(refreshed(api, narrow["refresh_token"], scope="jobs:create"), "invalid_scope", "jobs:create")
        back = given(refreshed(api, narrow["refresh_token"]))
        assert claims(back["access_token"])["scope"] == "jobs:get jobs:list"

    def test_a_smaller_role_makes_smaller_tokens(self, api: Api) -> None:
        pair = signed_in(api)
        api.delete("/v0/users/member@example.org")
        refused(refreshed(api, pair.refresh), "invalid_grant", "refresh_token")


class TestKeys:
    def test_a_rotated_key_is_published_and_good_until_its_last_token_ends(self, api: Api) -> None:
        ci = program(api)
        before = token(api, ci)
        api.later(1)
        fresh = rotated(api)
        after = token(api, ci)
        kids = [each["kid"] for each in api.get("/v0/.well-known/jwks.json").json()["keys"]]
        assert (kids[0], len(kids)) == (fresh, 2)
        assert {api.get("/v0/jobs", headers=bearer(each)).status_code for each in (before, after)} == {200}
        api.later(7198)
        assert api.get("/v0/jobs", headers=bearer(before)).status_code == 200
        api.later(63)
        assert [each["kid"] for each in api.get("/v0/.well-known/jwks.json").json()["keys"]] == [fresh]

    def test_a_token_of_a_key_that_has_ended_is_refused_whatever_it_says(self, api: Api) -> None:
        ci = program(api)
        old = signing_keys.active(api.parts, now=api.now[0])
        rotated(api)
        api.later(7261)
        late = Claims(
            subject=ci["client_id"], workspace="main", role="member", scope="", session="", issued_at=api.now[0]
        )
        assert_problem(
            api.get("/v0/jobs", headers=bearer(signing.sign(late, old, api.parts.issuer))), 401, "UNAUTHORIZED"
        )

    def test_the_private_part_is_nowhere_in_the_ledger(self, api: Api) -> None:
        key = signing_keys.active(api.parts, now=api.now[0])
        files = [path.read_bytes() for path in api.parts.arrivals.parent.rglob("*") if path.is_file()]
        assert any(key.public.encode() in held for held in files)
        assert not any(key.private.encode() in held for held in files)
        assert key.private not in repr(key)

    def test_another_server_of_the_same_ledger_takes_its_tokens(self, api: Api) -> None:
        access = token(api, program(api))
        api.context = replace(api.context, parts=replace(api.parts))
        assert api.get("/v0/jobs", headers=bearer(access)).status_code == 200


class TestIntrospection:
    def test_it_tells_of_tokens_of_the_callers_workspace_only(self, api: Api) -> None:
        ci = program(api)
        access, pair = token(api, ci, scope="jobs:list"), signed_in(api)
        told = api.post("/v0/oauth/introspect", {"token": access}, headers=bearer(MEMBER)).json()
        assert (told["active"], told["sub"], told["scope"]) == (True, ci["client_id"], "jobs:list")
        assert told["exp"] - told["iat"] == 7200
        assert "sid" not in told
        told = api.post("/v0/oauth/introspect", {"token": pair.refresh}, headers=bearer(access_for(api, ci))).json()
        assert (told["active"], told["token_type"], told["client_id"]) == (True, "refresh_token", "blaxel")
        for each in (access, pair.access, pair.refresh, "x", "tmr_x"):
            asked_by = bearer(STRANGER)
            assert api.post("/v0/oauth/introspect", {"token": each}, headers=asked_by).json() == {"active": False}

    def test_looking_at_a_used_refresh_token_ends_nothing(self, api: Api) -> None:
        pair = signed_in(api)
        fresh = given(refreshed(api, pair.refresh))
        assert api.post("/v0/oauth/introspect", {"token": pair.refresh}).json() == {"active": False}
        assert refreshed(api, fresh["refresh_token"]).status_code == 200


class TestReach:
    """A credential makes no other that reaches more."""

    def test_a_token_limited_in_scope_makes_no_keys_and_no_programs(self, api: Api) -> None:
        ci = program(api, role="admin")
        narrow = bearer(token(api, ci, scope="apiKey:write workspaces:update"))
        path = f"/v0/service_accounts/{ci['client_id']}/api_keys"
        assert "limited" in assert_problem(api.post(path, {"name": "k"}, headers=narrow), 403, "FORBIDDEN")
        answer = api.post("/v0/service_accounts", {"name": "x"}, headers=narrow)
        assert "limited" in assert_problem(answer, 403, "FORBIDDEN")
        whole = bearer(token(api, ci))
        assert api.post(path, {"name": "k"}, headers=whole).status_code == 200

    def test_a_token_for_one_workspace_makes_no_key_that_reaches_others(self, api: Api) -> None:
        pair = signed_in(api)
        assert api.post("/v0/profile/api_keys", {"name": "k"}, headers=bearer(pair.access)).status_code == 200
        api.person("member@example.org", Role.MEMBER, MEMBER, workspace="other")
        answer = api.post("/v0/profile/api_keys", {"name": "k"}, headers=bearer(pair.access))
        assert "one workspace" in assert_problem(answer, 403, "FORBIDDEN")
        assert [each["name"] for each in api.get("/v0/workspaces", headers=bearer(pair.access)).json()] == ["main"]


def test_a_request_with_a_token_is_looked_up_in_one_statement(api: Api) -> None:
    api.deployed()
    access = token(api, program(api))
    found = cost(lambda: api.get("/v0/jobs/sweep", headers=bearer(access)).raise_for_status())
    assert found.statements == 3  # what is behind the token, the job with its spec, its events


def test_a_token_costs_few_statements(api: Api) -> None:
    ci = program(api)
    token(api, ci)
    assert cost(lambda: token(api, ci)).statements == 5  # the service account, the key that signs, the audit
    pair = signed_in(api)
    assert cost(lambda: refreshed(api, pair.refresh).raise_for_status()).statements == 6  # and the rotation


def test_what_has_ended_is_swept(api: Api) -> None:
    ci = program(api)
    api.post("/v0/oauth/revoke", {"token": token(api, ci)}, headers=NOBODY)
    signed_in(api)
    rotated(api)

    def swept() -> int:
        return api.parts.database.write(lambda connection: stored_tokens.sweep(connection, now=api.now[0], limit=100))

    assert swept() == 0
    api.later(7200)
    assert swept() == 1
    api.later(60)
    assert swept() == 1
    api.later(30 * 86_400)
    assert swept() == 1
    assert api.get("/v0/jobs", headers=bearer(token(api, ci))).status_code == 200


def access_for(api: Api, ci: dict[str, str]) -> str:
    return token(api, ci)


def asked(api: Api, method: str, path: str, access: str, workspace: str = "main") -> httpx2.Response:
    """A request to the route, about nothing that is there."""
    named = path.replace("{workspace_in_path}", workspace).replace("{workspace_name}", workspace)
    return api.request(
        method,
        re.sub(r"\{[^}]*\}", "nothing", named),
        headers={**bearer(access), **({} if named != path else {"X-Blaxel-Workspace": workspace})},
        content=b"{}",
    )


def encoded_part(members: dict[str, Any]) -> str:
    return base64.urlsafe_b64encode(json.dumps(members).encode()).rstrip(b"=").decode()


def test_keys_of_a_service_account_go_on_beside_tokens(api: Api) -> None:
    made = service_account(api)
    assert api.get("/v0/jobs", headers=bearer(key_of(api, made["client_id"])["apiKey"])).status_code == 200
