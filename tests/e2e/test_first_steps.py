"""From a folder of code to a table of results, as a stranger would: the command line and plain HTTP."""

import io
import json
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.e2e.drive import ROOT, Server, until

FAILS_BY_ARGUMENT = """
case "$(cat "$TIDEMILL_TASK_FILE")" in
*exit*) echo "about to fail" >&2; exit 3 ;;
*signal*) kill -KILL $$ ;;
*hang*) trap '' TERM; while :; do sleep 1; done ;;
*137*) exit 137 ;;
*once*) [ "$TIDEMILL_ATTEMPT" = 2 ] || exit 1 ;;
esac
echo '{"fine": true}' > "$TIDEMILL_RESULT_FILE"
"""


@pytest.fixture(scope="module")
def shell(server: Server) -> Server:
    server.cli("deploy", str(ROOT / "examples" / "shell"))
    return server


def results(server: Server, job: str, execution_id: str) -> list[dict[str, object]]:
    return [json.loads(line) for line in server.cli("results", job, execution_id).splitlines()]


def run(server: Server, job: str, tasks: list[dict[str, object]], code: int = 0) -> str:
    """Run and wait; the execution's id."""
    execution_id = f"test-{job}-{abs(hash(json.dumps(tasks))) % 10**9:09}"
    server.cli("run", "job", job, "--data", json.dumps({"tasks": tasks}), "--id", execution_id, "--wait", code=code)
    return execution_id


def test_the_shell_example_runs_and_its_results_and_logs_can_be_read(shell: Server) -> None:
    batch = json.loads((ROOT / "examples" / "shell" / "batches" / "hello.json").read_text())["tasks"]
    execution_id = run(shell, "shell", batch)
    lines = results(shell, "shell", execution_id)
    assert [line["index"] for line in lines] == list(range(len(batch)))
    assert {line["status"] for line in lines} == {"succeeded"}
    assert all(line["result"] for line in lines)
    assert len(shell.cli("logs", "job", "shell", execution_id).splitlines()) >= len(batch)


def test_logs_are_found_by_the_first_eight_characters_and_by_task(shell: Server) -> None:
    with shell.http() as http:
        created = http.post("/jobs/shell/executions", json={"tasks": [{"name": "Ada"}, {"name": "Grace"}]}).json()
        execution_id = created["executionId"]
        assert "tasks" not in created
    until(lambda: "Ada" in shell.cli("logs", "job", "shell", execution_id[:8]))
    only = shell.cli("logs", "job", "shell", execution_id[:8], "task-1")
    assert "Grace" in only
    assert "Ada" not in only


def test_every_way_to_fail_is_told_apart(server: Server, job_folder: Callable[..., Path]) -> None:
    folder = job_folder("fails", FAILS_BY_ARGUMENT, memory=64, timeout=2, maxRetries=0, maxConcurrentTasks=10)
    server.cli("deploy", str(folder))
    tasks: list[dict[str, object]] = [{"how": how} for how in ("fine", "exit", "signal", "hang", "137")]
    lines = results(server, "fails", run(server, "fails", tasks, code=1))
    said = [(line["status"], (line.get("error") or {}).get("reason")) for line in lines]  # type: ignore[attr-defined]
    assert said == [
        ("succeeded", None),
        ("failed", "ExitCode"),
        ("failed", "Signal"),
        ("failed", "Timeout"),
        ("failed", "ExitCode"),
    ]
    messages = [str(line.get("error")) for line in lines]
    assert "3" in messages[1]
    assert "2" in messages[3]
    assert "137" in messages[4]


def test_a_retry_is_made_and_counted(server: Server, job_folder: Callable[..., Path]) -> None:
    folder = job_folder("again", FAILS_BY_ARGUMENT, memory=64, timeout=30, maxRetries=2, maxConcurrentTasks=10)
    server.cli("deploy", str(folder))
    execution_id = run(server, "again", [{"how": "once"}, {"how": "fine"}])
    assert [line["attempts"] for line in results(server, "again", execution_id)] == [2, 1]
    with server.http() as http:
        stats = http.get(f"/jobs/again/executions/{execution_id}").json()["stats"]
    assert stats == {"total": 2, "running": 0, "success": 2, "failure": 0, "retried": 1, "cancelled": 0}


def test_cancel_by_force_ends_the_whole_tree(server: Server, job_folder: Callable[..., Path]) -> None:
    stubborn = (
        "trap '' TERM\n(setsid sh -c 'trap \"\" TERM; while :; do sleep 0.2; done' &)\nwhile :; do sleep 0.2; done\n"
    )
    server.cli("deploy", str(job_folder("stubborn", stubborn, memory=64, maxConcurrentTasks=2)))
    with server.http() as http:
        execution_id = http.post("/jobs/stubborn/executions", json={"tasks": [{}] * 5}).json()["executionId"]
    until(lambda: len(server.tasks()) == 2)
    server.cli("cancel", "stubborn", execution_id, "--force")
    with server.http() as http:
        path = f"/jobs/stubborn/executions/{execution_id}"
        until(lambda: http.get(path).json()["status"] == "cancelled")
        stats = http.get(path).json()["stats"]
    assert stats == {"total": 5, "running": 0, "success": 0, "failure": 0, "retried": 0, "cancelled": 5}
    until(lambda: not [p for p in server.ours() if "sh" in p.name()])


def test_a_build_that_fails_says_why_and_leaves_the_old_revision_serving(
    shell: Server, job_folder: Callable[..., Path], tmp_path: Path
) -> None:
    broken = tmp_path / "broken"
    broken.mkdir()
    (broken / "blaxel.toml").write_text('type = "job"\nname = "shell"\n')
    (broken / "requirements.txt").write_text("this-package-does-not-exist-anywhere-0 == 99\n")
    (broken / "main.py").write_text("print('never')\n")
    shell.cli("deploy", str(broken), code=1)
    with shell.http() as http:
        job = http.get("/jobs/shell").json()
        assert job["status"] == "FAILED"  # the staged spec is dropped, the old revision serves on
        assert any(event["status"] == "FAILED" for event in job["events"])
        assert http.post("/jobs/shell/executions", json={"tasks": [{"name": "still"}]}).status_code == 200


def test_bad_input_is_refused_clearly_and_leaves_nothing_half_made(shell: Server) -> None:
    with shell.http() as http:
        job = {"metadata": {"name": "half"}, "spec": {"runtime": {}}}
        upload = http.put("/jobs/half", params={"upload": "true"}, json=job)
        assert upload.status_code in {404, 405}
        upload = http.post("/jobs", params={"upload": "true"}, json=job)
        assert upload.status_code == 200
        before = http.get("/jobs").json()["meta"]["total"]
        bomb, escape = io.BytesIO(), io.BytesIO()
        with zipfile.ZipFile(bomb, "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr("zeros", b"\0" * 4096)
            archive.infolist()[0].file_size = 5 << 30  # tests/build has the one that hides its size
        with zipfile.ZipFile(escape, "w") as archive:
            archive.writestr("../outside.sh", "echo no")
        cases = [
            (http.post("/jobs", content=b"{not json"), 400),
            (http.post("/jobs", json={"metadata": {"name": "x" * 50}, "spec": {}}), 400),
            (http.post("/jobs", json={"metadata": {"name": "Bad_Name"}, "spec": {}}), 400),
            (http.post("/jobs", json=[]), 400),
            (http.get("/jobs/unknown"), 404),
            (http.get("/jobs/shell/executions/00000000"), 404),
            (http.post("/jobs/unknown/executions", json={"tasks": [{}]}), 404),
            (http.post("/jobs/half/executions", json={"tasks": [{}]}), 409),
            (http.post("/jobs/shell/executions", json={"tasks": "all"}), 400),
            (http.post("/jobs/shell/executions", json={"tasks": [1]}), 400),
            (http.post("/jobs/shell/executions", content=b'{"tasks":[' + b"{}," * 1_000_000 + b"{}]}"), 400),
            (http.put(upload.headers["X-Blaxel-Upload-Url"], content=b"this is no zip"), 400),
            (http.get("/nowhere"), 404),
        ]
        for answer, status in cases:
            body = answer.json()
            assert answer.status_code == status, (answer.request.url, body)
            assert set(body) == {"code", "error", "error_code", "message"}, body
            assert body["code"] == status
        assert http.get("/jobs").json()["meta"]["total"] == before
        for archive_bytes in (bomb.getvalue(), escape.getvalue()):
            url = http.put("/jobs/half", params={"upload": "true"}, json=job).headers["X-Blaxel-Upload-Url"]
            answer = http.put(url, content=archive_bytes, headers={"Content-Type": "application/zip"})
            assert answer.status_code in {400, 413}, answer.text
        assert not list(shell.data.rglob("outside.sh"))
        assert http.get("/jobs/half").json()["status"] != "DEPLOYED"
        assert http.delete("/jobs/half").status_code == 200


def test_secrets_are_nowhere_in_the_clear_and_reach_the_task(server: Server, job_folder: Callable[..., Path]) -> None:
    canary = "canary-7c1b0a59e2"
    folder = job_folder("secretive", 'echo "{\\"length\\": ${#HIDDEN}}" > "$TIDEMILL_RESULT_FILE"\n', memory=64)
    server.cli("deploy", str(folder))
    with server.http() as http:
        image = http.get("/jobs/secretive").json()["spec"]["runtime"]["image"]
        envs = [{"name": "OTHER", "value": canary, "secret": True}]
        spec = {"runtime": {"image": image, "envs": envs}}
        answer = http.put("/jobs/secretive", json={"metadata": {"name": "secretive"}, "spec": spec})
        assert answer.status_code == 200, answer.text
        assert canary not in answer.text
        body = {"tasks": [{}], "env": {"HIDDEN": canary}}
        execution_id = http.post("/jobs/secretive/executions", json=body).json()["executionId"]
        until(lambda: http.get(f"/jobs/secretive/executions/{execution_id}").json()["status"] == "succeeded")
        answers = [http.post(f"/jobs/secretive/executions/{execution_id}/rerun", json={"select": {"indices": [0]}})]
        # what is refused with the value in it must not repeat it
        wrong = {"name": "OTHER", "value": canary, "secret": "yes"}
        answers += [
            http.put(
                "/jobs/secretive", json={"metadata": {"name": "secretive"}, "spec": {"runtime": {"envs": [wrong]}}}
            ),
            http.put("/jobs/secretive", json={"spec": {"runtime": {"envs": {"OTHER": canary}}}}),
            http.put("/jobs/secretive", content=json.dumps(spec)[:-1]),
            http.post("/jobs/secretive/executions", json={"tasks": [{}], "env": {"HIDDEN": [canary]}}),
            http.post("/jobs/secretive/executions", json={"tasks": [{}], "env": canary}),
            http.get("/jobs/secretive"),
            http.get("/jobs/secretive/revisions"),
            http.get("/observability/logs", params={"workloadIds": "secretive"}),
        ]
        assert [each.status_code for each in answers] == [200, 400, 400, 400, 400, 400, 200, 200, 200]
        assert [each.request.url.path for each in answers if canary in each.text] == []
        rerun_id = answers[0].json()["executionId"]
        until(lambda: http.get(f"/jobs/secretive/executions/{rerun_id}").json()["status"] == "succeeded")
    assert results(server, "secretive", execution_id)[0]["result"] == {"length": len(canary)}
    holders = [
        path
        for path in [*server.data.rglob("*"), server.data.parent / "server.log"]
        if path.is_file() and canary.encode() in path.read_bytes()
    ]
    assert holders == []


def test_doctor_says_what_works_here(server: Server) -> None:
    said = json.loads(server.cli("doctor", "--json"))
    assert {each["name"] for each in said} >= {"host", "sqlite", "launcher", "uv", "server", "node"}
    assert all(each["ok"] for each in said if each["vital"])
    assert "no violation" in server.cli("doctor", "--ledger")
