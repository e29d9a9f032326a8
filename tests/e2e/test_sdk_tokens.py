"""The unmodified official Python SDK with client credentials, and with what a login in a browser has given it."""

import base64
import json
import re
import subprocess
import sys
from typing import Any

import httpx2

from tests.e2e.drive import Server

PASSWORD = "a long password of Bob's"
DEVICE = "urn:ietf:params:oauth:grant-type:device_code"

PROGRAM = """
import json, os
import blaxel
from blaxel.core.client.client import client
from blaxel.core.client.api.jobs import list_jobs
from blaxel.core.common.settings import settings

client.with_base_url(os.environ["BL_API_URL"])
settings.auth.base_url = os.environ["BL_API_URL"]
found = list_jobs.sync_detailed(client=client)
print(json.dumps({
    "auth": type(settings.auth).__name__,
    "status": int(found.status_code),
    "refresh_token": settings.auth.credentials.refresh_token,
}))
"""
PERSON = """
import json, os
import httpx
from blaxel.core.authentication import CredentialsType
from blaxel.core.authentication.devicemode import DeviceMode

given = json.loads(os.environ["GIVEN"])
auth = DeviceMode(CredentialsType(**given), "default", os.environ["BL_API_URL"])
refused = auth.do_refresh()
found = httpx.get(os.environ["BL_API_URL"] + "/workspaces/default", headers=auth.get_headers())
print(json.dumps({
    "refused": repr(refused),
    "status": found.status_code,
    "renewed": auth.credentials.refresh_token != given["refresh_token"],
}))
"""


def ran(script: str, server: Server, **more: str) -> dict[str, Any]:
    environment = server.environment | {"BL_API_URL": server.credentials["BL_API_URL"], "BL_WORKSPACE": "default"}
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", script],
        env=environment | more,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def test_a_program_with_client_credentials(server: Server) -> None:
    admin = {"Authorization": f"Bearer {server.credentials['BL_API_KEY']}"}
    with httpx2.Client(base_url=server.url, headers=admin) as client:
        made = client.post("/v0/service_accounts", json={"name": "ci"}).json()
    pair = base64.b64encode(f"{made['client_id']}:{made['client_secret']}".encode()).decode()
    found = ran(PROGRAM, server, BL_CLIENT_CREDENTIALS=pair)
    assert found == {"auth": "ClientCredentials", "status": 200, "refresh_token": ""}


def test_a_person_after_a_login_in_a_browser(server: Server) -> None:
    admin = {"Authorization": f"Bearer {server.credentials['BL_API_KEY']}"}
    with httpx2.Client(base_url=server.url) as client:
        client.post("/v0/users", headers=admin, json={"email": "bob@example.org", "password": PASSWORD})
        begun = client.post("/v0/login/device", json={"client_id": "blaxel", "scope": "offline_access"}).json()
        answer = client.get("/device", params={"user_code": begun["user_code"]})
        who = {"email": "bob@example.org", "password": PASSWORD}
        answer = client.post("/login", data={**hidden(answer), **who}, follow_redirects=True)
        answer = client.post("/device", data={**hidden(answer), "workspace": "default", "decision": "approve"})
        assert "Approved" in answer.text
        poll = {"grant_type": DEVICE, "client_id": "blaxel", "device_code": begun["device_code"]}
        given = client.post("/v0/oauth/token", json=poll).json()
    kept = {name: given[name] for name in ("access_token", "refresh_token", "expires_in")}
    found = ran(PERSON, server, GIVEN=json.dumps({**kept, "device_code": begun["device_code"]}))
    assert found == {"refused": "None", "status": 200, "renewed": True}


def hidden(answer: httpx2.Response) -> dict[str, str]:
    """The hidden fields of the first form of a page."""
    form = answer.text.partition("</form>")[0]
    return dict(re.findall(r'type="hidden" name="(\w+)" value="([^"]*)"', form))
