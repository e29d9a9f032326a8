"""People sign in through a real OpenID provider, another site, in a real browser."""

import json
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import httpx2
import pytest
from playwright.sync_api import Page, expect

from tests.e2e.browser import needs_browser, opened
from tests.e2e.clients import install
from tests.e2e.conftest import running
from tests.e2e.drive import Server
from tests.e2e.test_sign_in import DEVICE

EMAIL = "ada@example.org"
PERSON = {"user": "ada", "email": EMAIL, "password": "Ada's password at the provider"}
CLIENT = "tidemill"

pytestmark = needs_browser


@dataclass
class Provider:
    process: subprocess.Popen[str]
    issuer: str

    def end(self) -> None:
        self.process.kill()
        self.process.wait(30)


@contextmanager
def provider() -> Iterator[Provider]:
    with subprocess.Popen(
        [install.python("canaille"), install.HERE / "canaille" / "provider.py"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        found = Provider(process, process.stdout.readline().strip())
        try:
            assert found.issuer.startswith("http://localhost:")
            yield found
        finally:
            found.end()


@pytest.fixture
def both(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Server, Provider]]:
    """A server and the provider that it is configured with, each of which knows the other; Ada is invited."""
    with provider() as found:
        settings = {
            "TIDEMILL_OIDC_ISSUER": found.issuer,
            "TIDEMILL_OIDC_CLIENT_ID": CLIENT,
            "TIDEMILL_OIDC_NAME": "Canaille",
            "TIDEMILL_OIDC_TRUSTS_EMAILS": "true",
        }
        for server in running(Server(tmp_path_factory.mktemp("tidemill") / "data", settings)):
            assert found.process.stdin is not None
            assert found.process.stdout is not None
            facts = {**PERSON, "client": CLIENT, "redirect_uri": f"{server.url}/login/oidc/callback"}
            found.process.stdin.write(json.dumps(facts) + "\n")
            found.process.stdin.flush()
            assert found.process.stdout.readline().strip() == "ready"
            with server.http() as client:
                assert client.post("/users", json={"email": EMAIL}).status_code == 200
            yield server, found


def sign_in_there(page: Page) -> None:
    """The pages of the provider, up to its question."""
    page.get_by_role("link", name="Sign in with Canaille").click()
    page.locator("input[name=login]").fill(PERSON["user"])
    page.get_by_role("button", name="Continue").click()
    page.locator("input[name=password]").fill(PERSON["password"])
    page.locator("input[name=password]").press("Enter")


def test_a_person_signs_in_through_the_provider_and_approves(both: tuple[Server, Provider]) -> None:
    server, found = both
    with httpx2.Client(base_url=server.url) as client, opened() as page:
        begun = client.post("/v0/login/device", json={"client_id": "blaxel", "scope": "offline_access"}).json()
        page.goto(begun["verification_uri_complete"])
        sign_in_there(page)
        assert page.url.startswith(f"{found.issuer}/")
        page.get_by_role("button", name="Accept").click()
        expect(page.get_by_role("heading", name="Let a program in?")).to_be_visible()
        expect(page.get_by_text(begun["user_code"])).to_be_visible()
        page.get_by_role("button", name="Approve").click()
        expect(page.get_by_role("heading", name="Approved")).to_be_visible()

        poll = {"grant_type": DEVICE, "client_id": "blaxel", "device_code": begun["device_code"]}
        pair = client.post("/v0/oauth/token", json=poll).json()
        mine = {"X-Blaxel-Authorization": f"Bearer {pair['access_token']}", "X-Blaxel-Workspace": "default"}
        assert client.get("/v0/workspaces/default", headers=mine).json()["name"] == "default"

        cookies = {each["name"]: each for each in page.context.cookies(server.url)}
        assert "tidemill_away" not in cookies
        assert cookies["tidemill_session"]["sameSite"] == "Strict"
        # signed out here and still signed in there: one step
        page.goto(f"{server.url}/login")
        expect(page.get_by_text(EMAIL)).to_be_visible()
        page.get_by_role("button", name="Sign out").click()
        page.get_by_role("link", name="Sign in with Canaille").click()
        expect(page.get_by_role("heading", name="A program waits")).to_be_visible()


def test_a_person_says_no_there(both: tuple[Server, Provider]) -> None:
    server, _ = both
    with opened() as page:
        page.goto(f"{server.url}/login")
        sign_in_there(page)
        page.get_by_role("button", name="Deny").click()
        expect(page.get_by_role("alert")).to_contain_text("did not let you in")
        page.get_by_role("link", name="Back to sign in").click()
        expect(page.get_by_label("Password")).to_be_visible()
