"""`tidemill deploy` over real HTTP."""

import io
import json
import os
import zipfile
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from tidemill.cli.deploy import sending_began
from tidemill.cli.exits import CommandError
from tidemill.cli.source import SourceFlags, job_request, pack, read_manifest, resolve

from .conftest import Ended, Reply, WireServer

PUT = "PUT /v0/jobs/etl"
GET = "GET /v0/jobs/etl"
LOGS = "GET /v0/observability/logs"

Tidemill = Callable[..., Ended]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "etl").mkdir()
    files = {
        "blaxel.toml": 'type = "job"\nname = "etl"\n[entrypoint]\nprod = "sh main.sh"\n[runtime]\nmemory = 64\n'
        'timeout = "1m"\nmaxConcurrentTasks = 3\n[env]\nCITY = "Lyon"\nMODE = "${MODE:fast}"\n',
        "main.sh": "echo hi\n",
        ".env": "export TOKEN='a b'\nBL_API_KEY=mine\n# no\n",
        ".git/config": "x",
    }
    for name, text in files.items():
        file = tmp_path / "etl" / name
        file.parent.mkdir(exist_ok=True)
        file.write_text(text)
    (tmp_path / "etl" / "main.sh").chmod(0o755)
    return tmp_path / "etl"


def job(status: str, *events: dict[str, str]) -> dict[str, Any]:
    runtime = {"image": "job/etl:abc"}
    return {"metadata": {"name": "etl"}, "status": status, "spec": {"runtime": runtime}, "events": list(events)}


def stamp(*, seconds: float) -> str:
    """A time so far from now."""
    return (datetime.now(UTC) + timedelta(seconds=seconds)).isoformat()


def place(wire: WireServer, number: int = 1, status: str = "UPLOADING") -> Reply:
    return Reply(body=job(status), headers={"X-Blaxel-Upload-Url": f"{wire.origin}/uploads/{number}"})


def test_a_folder_is_described_packed_sent_and_waited_for(wire: WireServer, tidemill: Tidemill, folder: Path) -> None:
    wire.on(PUT, place(wire))
    wire.on("PUT /uploads/1", Reply(body={}))
    wire.on(GET, Reply(body=job("BUILDING")), Reply(body=job("DEPLOYED")))
    line = {"timestamp": stamp(seconds=60), "message": "installing numpy", "severity": 9}
    wire.on(LOGS, Reply(body={"etl": {"logs": [line], "totalCount": 1}}))
    ended = tidemill("deploy", str(folder))
    assert ended.code == 0
    assert ended.out.startswith("etl deployed in ")
    assert "image job/etl:abc" in ended.out
    assert "BUILDING\n" in ended.err
    assert ended.err.count("installing numpy") == 1
    request, upload = wire.find(PUT)[0], wire.find("PUT /uploads/1")[0]
    assert request.query == {"upload": "true"}
    assert json.loads(request.body) == {
        "metadata": {"name": "etl", "labels": {"x-blaxel-auto-generated": "true"}},
        "spec": {
            "runtime": {
                "memory": 64,
                "timeout": 60,
                "maxConcurrentTasks": 3,
                "envs": [
                    {"name": "CITY", "value": "Lyon"},
                    {"name": "MODE", "value": "fast"},
                    {"name": "TOKEN", "value": "a b", "secret": True},
                ],
            }
        },
    }
    with zipfile.ZipFile(io.BytesIO(upload.body)) as archive:
        assert sorted(archive.namelist()) == ["blaxel.toml", "main.sh"]
        assert archive.getinfo("main.sh").external_attr >> 16 & 0o777 == 0o755
        assert archive.getinfo("main.sh").compress_type == zipfile.ZIP_DEFLATED


@pytest.mark.parametrize("status", [404, 405])
def test_a_job_that_does_not_exist_is_created(wire: WireServer, tidemill: Tidemill, folder: Path, status: int) -> None:
    wire.on(PUT, Reply(status=status, body={"error": "no"}))
    wire.on("POST /v0/jobs", place(wire))
    wire.on("PUT /uploads/1", Reply(body={}))
    ended = tidemill("deploy", str(folder), "--no-wait", "-o", "json")
    assert ended.json()["status"] == "UPLOADING"
    assert wire.lines() == [PUT, "POST /v0/jobs", "PUT /uploads/1"]
    assert wire.find("POST /v0/jobs")[0].query == {"upload": "true"}


def test_a_failed_upload_is_repeated_with_a_new_address(wire: WireServer, tidemill: Tidemill, folder: Path) -> None:
    wire.on(PUT, place(wire, 1), place(wire, 2))
    wire.on("PUT /uploads/1", Reply(status=500, body={"error": "broken"}))
    wire.on("PUT /uploads/2", Reply(body={}))
    ended = tidemill("deploy", str(folder), "--no-wait")
    assert ended.code == 0
    assert wire.lines() == [PUT, "PUT /uploads/1", PUT, "PUT /uploads/2"]


def test_an_archive_that_the_server_refuses_is_not_sent_again(
    wire: WireServer, tidemill: Tidemill, folder: Path
) -> None:
    wire.on(PUT, place(wire))
    wire.on("PUT /uploads/1", Reply(status=413, body={"code": 413, "error": "too large", "message": "at most 512 MiB"}))
    ended = tidemill("deploy", str(folder))
    assert (ended.code, wire.lines()) == (1, [PUT, "PUT /uploads/1"])
    assert ended.err.endswith("error: at most 512 MiB\n")


def test_a_build_that_fails_says_why_and_what_still_serves(wire: WireServer, tidemill: Tidemill, folder: Path) -> None:
    wire.on(PUT, place(wire))
    wire.on("PUT /uploads/1", Reply(body={}))
    failed = job("FAILED", {"time": "2026-08-21T10:00:09Z", "status": "FAILED", "message": "no entrypoint found"})
    failed["spec"]["revision"] = {"active": "rev-1"}
    wire.on(GET, Reply(body=job("BUILDING")), Reply(body=failed))
    ended = tidemill("deploy", str(folder))
    assert (ended.code, ended.out) == (1, "")
    assert "error: etl was not deployed: no entrypoint found\n" in ended.err
    assert "revision rev-1 serves on" in ended.err


def test_the_old_deploy_is_not_taken_for_the_new_one(wire: WireServer, tidemill: Tidemill, folder: Path) -> None:
    old = job("DEPLOYED", {"time": "2026-08-20T10:00:00Z", "status": "DEPLOYED"})
    headers = {"X-Blaxel-Upload-Url": f"{wire.origin}/uploads/1"}
    wire.on(PUT, Reply(body=old, headers=headers))
    wire.on("PUT /uploads/1", Reply(body={}))
    new = job("DEPLOYED", {"time": "2026-08-21T10:00:00Z", "status": "DEPLOYED"}, *old["events"])
    wire.on(GET, Reply(body=old), Reply(body=old), Reply(body=new))
    assert tidemill("deploy", str(folder)).code == 0
    assert len(wire.find(GET)) == 3


def test_an_image_is_named_not_built(wire: WireServer, tidemill: Tidemill, folder: Path) -> None:
    (folder / "blaxel.toml").write_text('type = "job"\nname = "etl"\nimage = "job/other:1"\n')
    wire.on(PUT, Reply(body=job("DEPLOYED")))
    assert tidemill("deploy", str(folder), "--no-wait").code == 0
    body = json.loads(wire.seen[0].body)
    assert (wire.seen[0].query, body["metadata"]["labels"]) == ({}, {})
    assert body["spec"]["runtime"]["image"] == "job/other:1"


@pytest.mark.parametrize("toml", ["type = [", 'type = "agent"', 'name = "etl"\n[env]\nA = "$NOT_SET_ANYWHERE"\n'])
def test_a_folder_that_makes_no_sense_is_a_usage_error_before_any_request(
    wire: WireServer, tidemill: Tidemill, folder: Path, toml: str
) -> None:
    (folder / "blaxel.toml").write_text(toml)
    ended = tidemill("deploy", str(folder))
    assert ended.code == 2
    assert "blaxel.toml" in ended.err
    assert wire.seen == []


def test_the_same_files_make_the_same_archive(folder: Path, tmp_path: Path) -> None:
    manifest = read_manifest(folder)
    pack(folder, manifest, tmp_path / "1.zip")
    os.utime(folder / "main.sh", (0, 1_000_000_000))
    pack(folder, manifest, tmp_path / "2.zip")
    assert (tmp_path / "1.zip").read_bytes() == (tmp_path / "2.zip").read_bytes()
    (folder / "main.sh").write_text("echo ho\n")
    pack(folder, manifest, tmp_path / "3.zip")
    assert (tmp_path / "1.zip").read_bytes() != (tmp_path / "3.zip").read_bytes()


def test_build_arguments_travel_as_the_last_entry(folder: Path, tmp_path: Path) -> None:
    (folder / "blaxel.toml").write_text('type = "job"\n[build.args]\nA = "1"\nB = "2"\n')
    (folder / ".env.build").write_text("B=3\n")
    pack(folder, read_manifest(folder), tmp_path / "1.zip")
    with zipfile.ZipFile(tmp_path / "1.zip") as archive:
        assert archive.namelist()[-1] == ".env.build"
        assert archive.read(".env.build") == b"A=1\nB=3\n"


def test_nothing_to_deploy_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(CommandError, match="nothing to deploy"):
        pack(tmp_path / "empty", read_manifest(tmp_path / "empty"), tmp_path / "1.zip")
    with pytest.raises(CommandError, match="no folder"):
        read_manifest(tmp_path / "none")


def test_flags_win_over_env_files_and_those_over_the_toml(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "prod.env").write_text("CITY=Nice\nX=file\n")
    flags = SourceFlags(env_file=[tmp_path / "prod.env"], secret=["X=flag"])
    runtime = job_request(folder, read_manifest(folder), flags, {"MODE": "slow"})["spec"]["runtime"]
    envs = {env["name"]: (env["value"], env.get("secret", False)) for env in runtime["envs"]}
    assert envs == {"CITY": ("Nice", True), "MODE": ("slow", False), "X": ("flag", True)}


@pytest.mark.parametrize(
    ("value", "resolved"),
    [
        ("$A", "1"),
        ("${A}", "1"),
        ("${B:two}", "two"),
        ("${B:}", ""),
        ("$secrets.S", "s"),
        ("${secrets.S}", "s"),
        ("${secrets.T:none}", "none"),
        ("cost: $A", "cost: $A"),
        ("$", "$"),
        ("plain", "plain"),
    ],
)
def test_a_value_that_is_entirely_a_reference_stands_for_another(value: str, resolved: str) -> None:
    assert resolve(value, {"A": "1"}, {"S": "s"}) == resolved


@pytest.mark.parametrize(("value", "missing"), [("$B", "B"), ("$secrets.A", "secrets.A")])
def test_a_reference_to_nothing_is_told_by_name(value: str, missing: str) -> None:
    with pytest.raises(KeyError, match=missing):
        resolve(value, {"A": "1"}, {})


def test_only_lines_of_this_build_are_shown(wire: WireServer, tidemill: Tidemill, folder: Path) -> None:
    wire.on(PUT, place(wire))
    wire.on("PUT /uploads/1", Reply(body={}))
    wire.on(GET, Reply(body=job("BUILDING")), Reply(body=job("DEPLOYED")))
    # the window that is asked for begins at a whole second
    lines = [{"timestamp": stamp(seconds=60), "message": "new"}, {"timestamp": stamp(seconds=-0.2), "message": "old"}]
    wire.on(LOGS, Reply(body={"etl": {"logs": lines, "totalCount": 2}}))
    ended = tidemill("deploy", str(folder))
    assert " new\n" in ended.err
    assert " old\n" not in ended.err
    query = wire.find(LOGS)[0].query
    assert query["type"] == "build"
    assert query["start"] >= stamp(seconds=-30)[:19]


def test_the_servers_clock_counts_where_it_is_another() -> None:
    own = datetime(2026, 8, 21, 10, 0, 0, 900_000, tzinfo=UTC)
    assert sending_began(own, None) == own
    assert sending_began(own, own.replace(microsecond=0)) == own
    slow = own.replace(microsecond=0) - timedelta(minutes=3)
    assert sending_began(own, slow) == slow
