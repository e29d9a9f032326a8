"""Events of a real server as they happen: a stream that ends with its reasons and is taken up again."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx2
import pytest

from tests.e2e.drive import Server

TRUE = '[entrypoint]\nprod = "/bin/true"\n'


@contextmanager
def stream(server: Server, key: str, **headers: str) -> Iterator[Iterator[dict[str, Any]]]:
    """The events of a stream, as dictionaries with ``id``, ``event`` and ``data``."""
    asked = {"Accept": "text/event-stream", "Authorization": f"Bearer {key}", **headers}
    with (
        httpx2.Client(timeout=30) as client,
        client.stream("GET", f"{server.url}/v0/events", headers=asked) as answer,
    ):
        assert answer.status_code == 200
        assert answer.headers["content-type"].startswith("text/event-stream")
        yield blocks(answer.iter_lines())


def blocks(lines: Iterator[str]) -> Iterator[dict[str, Any]]:
    found: dict[str, Any] = {}
    for line in lines:
        if line:
            name, _, value = line.partition(": ")
            found[name] = json.loads(value) if name == "data" else value
        elif found:
            yield found
            found = {}


def until(events: Iterator[dict[str, Any]], status: str, kind: str = "execution") -> list[dict[str, Any]]:
    """Blocks up to the first event of that kind and status."""
    seen = []
    for each in events:
        seen.append(each)
        if each.get("event") == kind and each["data"]["status"] == status:
            return seen
    raise AssertionError(f"the stream ended before {status}: {seen[-3:]}")


def deployed(server: Server, folder: Path) -> str:
    """The admin's key, once the job true is there."""
    project = folder / "true"
    project.mkdir()
    (project / "blaxel.toml").write_text(f'type = "job"\nname = "true"\n{TRUE}')
    server.cli("deploy", str(project))
    return server.credentials["BL_API_KEY"]


@pytest.fixture(scope="module")
def key(server: Server, tmp_path_factory: pytest.TempPathFactory) -> str:
    return deployed(server, tmp_path_factory.mktemp("project"))


def test_an_execution_is_followed_from_its_beginning_to_its_end(server: Server, key: str) -> None:
    with stream(server, key) as events:
        until(events, "DEPLOYED", "job")
        server.cli("run", "job", "true", "--id", "followed-one", "-d", "[{}, {}, {}]")
        seen = [each["data"] for each in until(events, "succeeded") if "data" in each]
    states = [each["status"] for each in seen if each["type"] == "execution"]
    assert states == ["pending", "running", "succeeded"]
    last = {each["task"]: each["status"] for each in seen if each["type"] == "task"}
    assert last == {f"task-{n}": "succeeded" for n in range(3)}


def test_it_is_taken_up_where_a_killed_server_left_it(fresh: Server, tmp_path: Path) -> None:
    server, key = fresh, deployed(fresh, tmp_path)
    with stream(server, key) as events:
        last = until(events, "DEPLOYED", "job")[-1]["id"]
    server.kill()
    server.start()
    server.cli("run", "job", "true", "--wait", "--id", "after-the-kill")
    with stream(server, key, **{"Last-Event-ID": last}) as events:
        seen = [each["data"] for each in until(events, "succeeded") if "data" in each]
    assert {each["execution"] for each in seen} == {"after-the-kill"}
    assert [each["status"] for each in seen if each["type"] == "execution"] == ["pending", "running", "succeeded"]


def test_it_ends_with_its_credential(server: Server, key: str) -> None:
    headers = {"Authorization": f"Bearer {key}"}
    with httpx2.Client(base_url=server.url, headers=headers) as client:
        made = client.post("/v0/profile/api_keys", json={"name": "for a while"}).json()
        newest = client.get("/v0/events?after=newest").json()["next"]
        with stream(server, made["apiKey"]) as events:
            until(events, "DEPLOYED", "job")
            assert client.delete(f"/v0/profile/api_keys/{made['id']}").status_code == 200
            client.post("/v0/jobs/true/executions", json={})
            rest = list(events)
    assert rest[-1]["event"] == "error"
    assert rest[-1]["data"]["code"] == 401
    assert not [each for each in rest if each.get("event") == "execution" and each["data"]["seq"] > newest]


def test_a_server_that_stops_ends_it_in_order(fresh: Server, tmp_path: Path) -> None:
    with stream(fresh, deployed(fresh, tmp_path)) as events:
        until(events, "DEPLOYED", "job")
        fresh.terminate()
        # a stream that is cut off raises here
        assert all("event" not in each for each in events)
