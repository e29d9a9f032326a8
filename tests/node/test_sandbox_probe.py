"""Whether a machine has level sandbox, where a script stands for the bubblewrap of another one; the copies of /etc."""

import os
from dataclasses import replace
from pathlib import Path

import pytest

from tests.node.prison import why_not_at
from tidemill.node.isolation.level import IsolationError, Level
from tidemill.node.isolation.opening import look
from tidemill.node.isolation.sandbox import etc
from tidemill.node.isolation.sandbox.etc import Etc
from tidemill.node.launcher import launcher_path
from tidemill.node.settings import NodeSettings


@pytest.fixture
def settings(tmp_path: Path) -> NodeSettings:
    return NodeSettings(data_dir=tmp_path / "data", memory_mb=1024, slots=4)


def bubblewrap(folder: Path, script: str) -> str:
    """A PATH with one that does what ``script`` says."""
    folder.chmod(0o755)
    program = folder / "bwrap"
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)
    return f"{folder}:/usr/bin:/bin"


def why_no_sandbox(settings: NodeSettings) -> str:
    with pytest.raises(IsolationError) as refused:
        look(replace(settings, isolation="sandbox"), launcher_path())
    return str(refused.value)


def test_without_bubblewrap_it_says_how_to_get_it(settings: NodeSettings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    assert "bubblewrap is not installed (on Debian: apt install bubblewrap)" in why_no_sandbox(settings)
    assert look(settings, launcher_path()).level is not Level.SANDBOX


@pytest.mark.parametrize(
    ("script", "says"),
    [
        ("echo 'bwrap: No permissions to create new namespace' >&2; exit 1", "bwrap: No permissions to create new"),
        ("echo 'bwrap: Unknown option --size' >&2; exit 1", "bwrap: Unknown option --size"),
        ("exit 0", "a sandbox was made in which nothing runs"),
        ("kill -9 $$", "a sandbox was made in which nothing runs"),
    ],
)
def test_what_bubblewrap_says_is_the_reason(
    settings: NodeSettings, monkeypatch: pytest.MonkeyPatch, script: str, says: str
) -> None:
    place = settings.data_dir.parent
    users = replace(settings, task_uid_count=0)
    monkeypatch.setenv("PATH", bubblewrap(place, script))
    assert says in why_no_sandbox(users)


@pytest.mark.skipif(bool(why_not_at(Level.SANDBOX)), reason=why_not_at(Level.SANDBOX))
def test_where_proc_may_not_be_mounted_a_sandbox_has_the_machines(
    settings: NodeSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    refuses = 'for word; do [ "$word" = --proc ] && { echo "bwrap: Can\'t mount proc" >&2; exit 1; }; done'
    users = replace(settings, task_uid_count=0)
    monkeypatch.setenv("PATH", bubblewrap(settings.data_dir.parent, f'{refuses}; exec /usr/bin/bwrap "$@"'))
    assert look(users, launcher_path()).level is Level.SANDBOX


def test_the_stronger_level_is_not_tried_where_it_is_not_asked_for(
    settings: NodeSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    tried = settings.data_dir.parent / "tried"
    monkeypatch.setenv("PATH", bubblewrap(settings.data_dir.parent, f"touch {tried}; exit 1"))
    assert look(replace(settings, isolation="process"), launcher_path()).level is Level.PROCESS
    assert not tried.exists()


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that stands for the /etc of another machine."""
    folder = tmp_path / "etc"
    (folder / "ssl" / "private").mkdir(parents=True)
    (folder / "ssl" / "private").chmod(0o710)
    (folder / "ssl" / "private" / "key.pem").write_text("secret")
    (folder / "ssl" / "ca.pem").write_text("certificate")
    (folder / "ssl" / "link.pem").symlink_to("ca.pem")
    (folder / "ssl" / "closed.pem").write_text("secret")
    (folder / "ssl" / "closed.pem").chmod(0o600)
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "resolv.conf").write_text("nameserver 192.0.2.1\n")
    (folder / "resolv.conf").symlink_to(tmp_path / "run" / "resolv.conf")
    (folder / "hosts").write_text("127.0.0.1 localhost\n")
    names = ("ssl", "resolv.conf", "hosts", "passwd", "missing")
    monkeypatch.setattr(etc, "configuration", lambda: [folder / name for name in names])
    return folder


def test_a_copy_holds_what_everybody_may_read_and_no_accounts(machine: Path, tmp_path: Path) -> None:
    (machine / "passwd").write_text("ann:x:1000:1000::/home/ann:/bin/sh\n")
    copy = Etc(tmp_path / "copies").current()
    assert {path.name for path in copy.iterdir()} == {"ssl", "resolv.conf", "hosts", "passwd", "group"}
    assert {path.name for path in (copy / "ssl").iterdir()} == {"ca.pem", "link.pem"}
    assert (copy / "ssl" / "link.pem").readlink() == Path("ca.pem")
    assert (copy / "resolv.conf").read_text() == "nameserver 192.0.2.1\n"
    assert not (copy / "resolv.conf").is_symlink()
    accounts = (copy / "passwd").read_text()
    assert "ann" not in accounts
    assert "root:x:0:0:" in accounts
    assert {path.stat().st_mode & 0o777 for path in (copy, copy / "ssl")} == {0o755}


def test_the_node_that_is_no_root_has_a_name_in_it(machine: Path, tmp_path: Path) -> None:
    assert machine.exists()
    lines = (Etc(tmp_path / "copies").current() / "passwd").read_text().splitlines()
    assert [line.split(":")[2] for line in lines].count(str(os.geteuid())) == 1


def test_a_change_of_the_machine_is_for_the_next_and_changes_nothing_under_who_runs(
    machine: Path, tmp_path: Path
) -> None:
    copies = Etc(tmp_path / "copies")
    first = copies.current()
    assert copies.current() == first
    (tmp_path / "run" / "resolv.conf").write_text("nameserver 192.0.2.2\n")
    os.utime(tmp_path / "run" / "resolv.conf", ns=(1, 1))
    second = copies.current()
    assert second != first
    assert (second / "resolv.conf").read_text() == "nameserver 192.0.2.2\n"
    assert (first / "resolv.conf").read_text() == "nameserver 192.0.2.1\n"
    (machine / "ssl" / "new.pem").write_text("certificate")
    os.utime(machine / "ssl", ns=(2, 2))
    assert (copies.current() / "ssl" / "new.pem").exists()
    assert Etc(tmp_path / "copies").current().name == "1"


def test_there_is_room_for_what_an_operator_shows_of_etc(machine: Path, tmp_path: Path) -> None:
    assert machine.exists()
    copy = Etc(tmp_path / "copies", (Path("/etc/passwd"), Path("/etc/app"), Path("/srv"))).current()
    assert (copy / "app").exists()
    assert {path.name for path in copy.iterdir()} == {"ssl", "resolv.conf", "hosts", "passwd", "group", "app"}
