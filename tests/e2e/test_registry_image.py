"""A job of an image that lies in a registry, on a real server: deployed, run, and seen to fail."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.e2e.drive import Server, until
from tests.node.roots import fill, why_no_containers
from tests.registry import PASSWORD, RunningRegistry, docker_config, running_registry, why_no_registry

WHY_NOT = why_no_containers() or why_no_registry()
pytestmark = pytest.mark.skipif(bool(WHY_NOT), reason=WHY_NOT)

SCRIPT = 'echo "$GREETING from $(cat /etc/issue)"; echo "[$TASK_INDEX]" > $TIDEMILL_RESULT_FILE'
CONFIG = {"Entrypoint": ["/bin/sh", "-c", SCRIPT], "Env": ["GREETING=hello"]}


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningRegistry]:
    folder = tmp_path_factory.mktemp("registry")
    root = folder / "root"
    root.mkdir()
    fill(root, {"etc/issue": "the image"})
    with running_registry(folder, has_password=True) as found:
        found.push("team/tool", [root], tag="v1", config=CONFIG)
        yield found


@pytest.fixture
def image_folder(tmp_path: Path) -> Callable[[str], Path]:
    def make(image: str) -> Path:
        (tmp_path / "blaxel.toml").write_text(f'type = "job"\nname = "tool"\nimage = "{image}"\n')
        return tmp_path

    return make


def deploy(server: Server, image: str, config: str) -> list[str]:
    """The statuses of the job "tool" from this deploy on, once it has ended."""
    body = {"metadata": {"name": "tool"}, "spec": {"runtime": {"image": image, "dockerConfig": config, "envs": []}}}
    with server.http() as http:
        before = len(http.get("/jobs/tool").json().get("events", []))
        answer = http.put("/jobs/tool", json=body)
        if answer.status_code == 404:
            answer = http.post("/jobs", json=body)
        assert answer.status_code == 200, answer.text
        until(lambda: http.get("/jobs/tool").json()["status"] in {"DEPLOYED", "FAILED"})
        events = http.get("/jobs/tool").json()["events"][before:]
    return [f"{event['status']}: {event['message']}" for event in events]


def test_an_image_of_a_closed_registry_is_deployed_and_runs(server: Server, registry: RunningRegistry) -> None:
    image = f"{registry.host}/team/tool:v1"
    assert deploy(server, image, docker_config(registry.host, password="wrong"))[-1].startswith("FAILED: image ")
    told = deploy(server, image, docker_config(registry.host))
    assert [line.partition(":")[0] for line in told][-2:] == ["DEPLOYING", "DEPLOYED"]
    server.cli("run", "job", "tool", "--data", '{"tasks": [{}, {}]}', "--id", "tool-run-1", "--wait")
    said = server.cli("logs", "job", "tool", "tool-run-1")
    assert said.count("hello from the image") == 2
    with server.http() as http:
        assert http.get("/jobs/tool").json()["spec"]["runtime"]["image"].startswith(f"{image}@sha256:")
    for path in server.data.rglob("*"):
        if path.is_file() and not path.is_symlink():
            assert PASSWORD.encode() not in path.read_bytes(), path


def test_an_image_that_is_not_there_is_a_failed_deploy(
    server: Server, registry: RunningRegistry, image_folder: Callable[[str], Path]
) -> None:
    server.cli("deploy", str(image_folder(f"{registry.host}/team/tool:v1")), code=1)
    with server.http() as http:
        job = until(lambda: http.get("/jobs/tool").json())
        assert "wants credentials" in job["events"][-1]["message"]
