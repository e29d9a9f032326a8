"""A person lets a program in, in a real browser, while the program polls."""

import httpx2
from playwright.sync_api import expect

from tests.e2e.browser import needs_browser, opened
from tests.e2e.drive import Server

PASSWORD = "a long password of Ada's"
DEVICE = "urn:ietf:params:oauth:grant-type:device_code"


@needs_browser
def test_a_person_signs_in_and_approves_and_the_poll_gets_tokens(server: Server) -> None:
    admin = {"Authorization": f"Bearer {server.credentials['BL_API_KEY']}"}
    complaints: list[str] = []
    asked: list[str] = []
    with httpx2.Client(base_url=server.url) as client, opened() as page:
        made = client.post("/v0/users", headers=admin, json={"email": "ada@example.org", "password": PASSWORD})
        assert made.status_code == 200, made.text
        begun = client.post("/v0/login/device", json={"client_id": "blaxel", "scope": "offline_access"}).json()
        poll = {"grant_type": DEVICE, "client_id": "blaxel", "device_code": begun["device_code"]}
        assert client.post("/v0/oauth/token", json=poll).json()["error"] == "authorization_pending"

        page.on("console", lambda message: complaints.append(message.text) if message.type == "error" else None)
        page.on("request", lambda request: asked.append(request.url))
        page.goto(begun["verification_uri_complete"])
        page.get_by_label("Email").fill("ada@example.org")
        page.get_by_label("Password").fill(PASSWORD)
        page.get_by_role("button", name="Sign in").click()
        expect(page.get_by_role("heading", name="Let a program in?")).to_be_visible()
        expect(page.get_by_text("blaxel")).to_be_visible()
        expect(page.get_by_text(begun["user_code"])).to_be_visible()
        expect(page.get_by_label("Workspace")).to_have_value("default")
        page.get_by_role("button", name="Approve").click()
        expect(page.get_by_role("heading", name="Approved")).to_be_visible()

        pair = client.post("/v0/oauth/token", json=poll).json()
        assert pair.keys() == {"access_token", "refresh_token", "expires_in", "token_type"}
        mine = {"X-Blaxel-Authorization": f"Bearer {pair['access_token']}", "X-Blaxel-Workspace": "default"}
        assert client.get("/v0/workspaces/default", headers=mine).json()["name"] == "default"

        cookies = {each["name"]: each for each in page.context.cookies()}
        assert cookies["tidemill_session"]["httpOnly"]
        assert cookies["tidemill_session"]["sameSite"] == "Strict"
        page.goto(f"{server.url}/login")
        page.get_by_role("button", name="Sign out").click()
        expect(page.get_by_label("Password")).to_be_visible()
    assert complaints == []
    assert [url for url in asked if not url.startswith((f"{server.url}/", "data:"))] == []
