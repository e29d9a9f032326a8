"""What doctor makes of probes: each within its deadline, a line each."""

import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from tidemill import doctor
from tidemill.doctor import Finding, lines, within


def test_a_probe_that_does_not_answer_is_told_of_and_left_behind() -> None:
    never = threading.Event()

    def hangs() -> Iterator[Finding]:
        never.wait()
        yield Finding(name="disk", ok=True, says="fine")

    (found,) = within(0.01, "disk", hangs)
    never.set()
    assert (found.name, found.ok, found.says) == ("disk", False, "no answer within 0.01 s")


def test_what_was_found_before_a_probe_broke_is_kept() -> None:
    def breaks() -> Iterator[Finding]:
        yield Finding(name="one", ok=True, says="fine")
        raise ValueError("no number")

    kept, broken = within(10, "two", breaks)
    assert kept.says == "fine"
    assert (broken.name, broken.ok, broken.says) == ("two", False, "ValueError: no number")


def test_who_may_not_look_is_told_who_may() -> None:
    def forbidden() -> Iterator[Finding]:
        raise PermissionError(13, "Permission denied", "/data/server.lock")

    (found,) = within(10, "server", forbidden)
    assert found.says == "not allowed: [Errno 13] Permission denied: '/data/server.lock'"
    assert found.remedy == "run doctor as the user whom the server runs as"


def test_every_finding_is_a_whole_line_and_a_remedy_another() -> None:
    long = "no " * 100
    found = [
        Finding(name="host", ok=True, says="Linux"),
        Finding(name="limits: memory", ok=False, vital=False, says=long, remedy="start it as root"),
        Finding(name="sqlite", ok=False, says="no disk"),
    ]
    assert [*lines(found)] == [
        "ok       host            Linux",
        f"MISSING  limits: memory  {long}",
        "                         to have it: start it as root",
        "FAILED   sqlite          no disk",
    ]


def test_the_database_is_tried_where_the_servers_would_lie(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", "/no/such/folder")
    assert doctor.sqlite(tmp_path / "not" / "yet").ok
    assert [*tmp_path.iterdir()] == []
