"""A folder with a Dockerfile, deployed to a real server as a user would: seen to fail, then to run."""

import shutil
from pathlib import Path

import pytest

from tests.e2e.drive import Server
from tests.node.dockerfiles import SHELL, why_no_dockerfiles
from tests.node.roots import BUSYBOX

WHY_NOT = why_no_dockerfiles()
pytestmark = pytest.mark.skipif(bool(WHY_NOT), reason=WHY_NOT)

RUNS = """WORKDIR /srv
COPY greeting .
CMD ["sh", "-c", "echo $(cat greeting) from task $TASK_INDEX"]
"""


def test_a_dockerfile_that_fails_says_where_and_one_that_does_not_runs(server: Server, tmp_path: Path) -> None:
    found = shutil.which(BUSYBOX)
    assert found is not None
    shutil.copy(found, tmp_path / BUSYBOX)
    (tmp_path / "greeting").write_text("hello")
    (tmp_path / "blaxel.toml").write_text('type = "job"\nname = "greets"\n')
    (tmp_path / "Dockerfile").write_text(f"{SHELL}RUN echo no such thing >&2; exit 4\n{RUNS}")
    server.cli("deploy", str(tmp_path), code=1)
    with server.http() as http:
        event = http.get("/jobs/greets").json()["events"][-1]
    assert "step 4/7 (RUN echo no such thing >&2; exit 4): " in event["message"]
    assert "exit status 4" in event["message"]
    (tmp_path / "Dockerfile").write_text(f"{SHELL}{RUNS}")
    server.cli("deploy", str(tmp_path))
    server.cli("run", "job", "greets", "--data", '{"tasks": [{}, {}]}', "--id", "greets-1", "--wait")
    assert server.cli("logs", "job", "greets", "greets-1").count("hello from task") == 2
