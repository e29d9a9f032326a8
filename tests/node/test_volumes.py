"""Volumes: each is there for its task alone, holds what it is to hold, and leaves nothing."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.node.launching import Launch
from tests.node.prison import PRISONS, Prison, prison_at, start_behind, why_not_at
from tests.node.rig import Reader, Rig
from tidemill.engine.local import LocalEngine
from tidemill.model.lease import Outcome, OutcomeKind
from tidemill.model.volume import Volume
from tidemill.node.isolation.level import Level
from tidemill.node.isolation.protections import probe
from tidemill.node.launcher import launcher_path

HERE = probe(launcher_path(), None)
pytestmark = pytest.mark.skipif(not HERE.volumes, reason=f"nothing is mounted here: {HERE.missing.get('volumes')}")

# one that is nowhere, one in a directory that there is, one on a directory that there is
PLACES = ("/tidemill-data/in/put", "/srv/tidemill-data", "/mnt")
MB = 1 << 20


@pytest.fixture(scope="module", params=PRISONS, ids=lambda place: f"{place[0].name.lower()}-{place[1]}")
def cell(request: pytest.FixtureRequest) -> Iterator[Prison]:
    with prison_at(*request.param) as found:
        yield found


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def succeeded(outcome: Outcome) -> bool:
    assert outcome.kind in {OutcomeKind.SUCCEEDED, OutcomeKind.EXIT_CODE}, outcome
    return outcome.kind is OutcomeKind.SUCCEEDED


def test_a_task_writes_to_its_volumes_wherever_they_are_and_nothing_is_left(cell: Prison) -> None:
    before = {place: names(Path(place)) for place in ("/", "/srv", "/mnt")}
    mounts = Path("/proc/mounts").read_text()
    volumes = tuple(Volume(path=path, size_mb=4) for path in PLACES)
    write = " && ".join(f"echo mine > {path}/file && test $(cat {path}/file) = mine" for path in PLACES)
    program = "printf '#!/bin/sh\\nexit 0\\n' > /mnt/run && chmod +x /mnt/run && /mnt/run"
    assert succeeded(cell.try_inside(f"{write} && {program}", volumes=volumes))
    # the next task, even of the same user, has another
    empty = " && ".join(f'test -z "$(ls -A {path})"' for path in PLACES)
    assert succeeded(cell.try_inside(empty, volumes=volumes))
    assert {place: names(Path(place)) for place in before} == before
    assert Path("/proc/mounts").read_text() == mounts


def test_one_that_is_full_says_so_to_its_task_and_to_nobody_else(cell: Prison) -> None:
    fill = "dd if=/dev/zero of=/tidemill-data/file bs=64k count=200 2>error; grep -q 'No space left' error && "
    fill += f"test $(stat -c %s /tidemill-data/file) = {4 * MB} && echo more > still-room"
    volumes = (Volume(path="/tidemill-data", size_mb=4),)
    assert succeeded(cell.try_inside(f"cd $TIDEMILL_WORK_DIR && {fill}", volumes=volumes))


def test_one_to_read_is_empty_and_stays_so(cell: Prison) -> None:
    volumes = (Volume(path="/tidemill-data", size_mb=4, read_only=True),)
    assert succeeded(cell.try_inside('ls /tidemill-data && test -z "$(ls -A /tidemill-data)"', volumes=volumes))
    assert not succeeded(cell.try_inside("touch /tidemill-data/file", volumes=volumes))


def test_it_opens_no_way_out(cell: Prison) -> None:
    # a folder that holds what every task needs is shown again around its volume, but not in a sandbox
    around = "/etc" if cell.rig.settings.isolation == Level.PROCESS else "/tidemill-etc"
    volumes = (Volume(path="/tidemill-data", size_mb=4), Volume(path=f"{around}/tidemill/x", size_mb=4))
    for way in (
        "cat $DATA/keyring.json",
        "ls $DATA",
        "cat /etc/shadow",
        f"touch {around}/tidemill/y",
        "touch /new",
        "mknod /tidemill-data/null c 1 3 && echo x > /tidemill-data/null",
        "cp $SETUID_ID /tidemill-data/id && chmod 4755 /tidemill-data/id && test $(/tidemill-data/id -u) != $(id -u)",
        "cat /proc/$VICTIM_PID/environ",
        "kill -0 $VICTIM_PID",
        "unshare --mount true",
        "umount /tidemill-data",
    ):
        assert not succeeded(cell.try_inside(way, volumes=volumes)), way
    assert succeeded(cell.try_inside("cat /etc/passwd >/dev/null && ls /usr/bin >/dev/null", volumes=volumes))


def test_it_goes_with_no_network_too(cell: Prison) -> None:
    only_loopback = "test \"$(sed 1,2d /proc/net/dev | tr -d ' ' | cut -d: -f1)\" = lo && echo x > /tidemill-data/x"
    volumes = (Volume(path="/tidemill-data", size_mb=4),)
    assert succeeded(cell.try_inside(only_loopback, volumes=volumes, network=False))


@pytest.mark.parametrize(
    ("volumes", "said"),
    [
        ((Volume(path="/", size_mb=1),), "the volume at / would replace everything that a task runs on"),
        ((Volume(path="/proc/x", size_mb=1),), "the volume at /proc/x would replace what the kernel shows there"),
        ((Volume(path="/dev", size_mb=1),), "the volume at /dev would replace what the kernel shows there"),
        ((Volume(path="/a", size_mb=200), Volume(path="/b", size_mb=57)), "have 257 MB in all, but they lie in memory"),
        (tuple(Volume(path=f"/{n}", size_mb=1) for n in range(17)), "the job has 17 volumes; a task has 16 at most"),
        ((Volume(path="/etc/passwd", size_mb=1),), "the job's volumes could not be mounted: Not a directory"),
    ],
)
def test_what_cannot_be_is_a_launch_error_that_says_why(
    rig: Rig, engine: LocalEngine, volumes: tuple[Volume, ...], said: str
) -> None:
    outcome = rig.run(engine, rig.lease(rig.shell("true"), volumes=volumes, memory_mb=256))
    assert outcome.kind is OutcomeKind.LAUNCH_ERROR
    assert said in outcome.message


def test_a_sandbox_makes_no_directories_where_it_shows_the_machines(rig: Rig) -> None:
    if why := why_not_at(Level.SANDBOX):
        pytest.skip(why)
    engine = rig.engine(isolation=Level.SANDBOX)
    for index, path in enumerate(("/etc/tidemill", "/usr/tidemill")):
        outcome = rig.run(engine, rig.lease(rig.shell("true"), index, volumes=(Volume(path=path, size_mb=1),)))
        assert outcome.kind is OutcomeKind.LAUNCH_ERROR
        assert f"the volume at {path} lies in " in outcome.message
    there = rig.lease(rig.shell("touch /usr/share/x"), 2, volumes=(Volume(path="/usr/share", size_mb=1),))
    assert rig.run(engine, there).kind is OutcomeKind.SUCCEEDED


def test_one_that_would_hide_what_the_task_needs_is_a_launch_error(rig: Rig, engine: LocalEngine) -> None:
    hides = (Volume(path=str(rig.root), size_mb=1),)
    outcome = rig.run(engine, rig.lease(rig.shell("true"), volumes=hides))
    assert outcome.kind is OutcomeKind.LAUNCH_ERROR
    assert f"the volume at {rig.root} would hide {rig.data}/images/" in outcome.message


def test_what_lies_in_a_volume_counts_as_memory_and_is_gone_with_the_task(rig: Rig) -> None:
    engine = rig.engine()
    script = "head -c 60000000 /dev/zero > /tidemill-data/file; exec sleep 0"
    lease = rig.lease(rig.shell(script), volumes=(Volume(path="/tidemill-data", size_mb=64),), memory_mb=128)
    outcome = rig.run(engine, lease)
    assert outcome.kind is OutcomeKind.SUCCEEDED
    if "memory-limit" not in engine.nodes()[0].capabilities:
        pytest.skip("no kernel counts memory here")
    assert outcome.peak_memory_bytes is not None
    assert outcome.peak_memory_bytes > 50 * MB


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can start nodes of several users")
def test_a_node_that_cannot_mount_does_not_start_it(rig: Rig) -> None:
    # the limits are those of the user namespace alone which the node is in
    none = 'echo 0 > /proc/sys/user/max_mnt_namespaces; exec "$@"'
    node = start_behind(rig, ("unshare", "--user", "--map-root-user", "sh", "-c", none, "sh"))
    try:
        engine = rig.engine()
        lease = rig.lease(rig.shell(f"touch {rig.root}/ran"), volumes=(Volume(path="/tidemill-data", size_mb=1),))
        rig.launch(engine, lease)
        refused = Reader(engine).outcome(lease.attempt)
        assert refused.kind is OutcomeKind.LAUNCH_ERROR
        assert refused.message.startswith("the job has volumes, but its node cannot mount any (")
        assert not (rig.root / "ran").exists()
    finally:
        rig.close()
        node.wait(20)


@pytest.mark.parametrize("word", ["0:rw:/a", "x:rw:/a", "10:rx:/a", "10:rw:a", "10", "10:rw:"])
def test_a_volume_that_is_not_understood_starts_nothing(launch: Launch, word: str) -> None:
    assert launch("true", options=[f"--volume={word}"]).line() == "failed volume 22"


def test_what_lies_beside_a_volume_is_there_as_it_was(launch: Launch, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("text")
    (tmp_path / "link").symlink_to("file")
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "inside").write_text("inside")
    volume = f"--volume={MB}:rw:{tmp_path}/made/here"
    launched = launch("sh", "-c", "ls; cat link folder/inside; df made/here | tail -1", options=[volume])
    assert launched.ended() == ["ended", "exit", "0"]
    assert names(tmp_path) == ["file", "folder", "link"]
    out = tmp_path / "out"
    with out.open("wb") as file:
        launch("sh", "-c", "cat link folder/inside; ls", options=[volume], output=file.fileno()).ended()
    assert out.read_text() == "textinsidefile\nfolder\nlink\nmade\nout\n"


def test_a_directory_with_too_much_in_it_is_not_shown_again(launch: Launch, tmp_path: Path) -> None:
    for number in range(600):
        (tmp_path / str(number)).touch()
    assert launch("true", options=[f"--volume={MB}:rw:{tmp_path}/made"]).line() == "failed volume 7"


def test_files_with_nothing_in_them_fill_it_too(cell: Prison) -> None:
    count = "cd /tidemill-data && for i in $(seq 40); do touch $(seq -f $i-%g 100) 2>/dev/null || break; done; "
    count += "test $(ls | wc -l) -gt 1000 && test $(ls | wc -l) -lt 2100"
    outcome = cell.try_inside(count, volumes=(Volume(path="/tidemill-data", size_mb=4),))
    # bubblewrap makes those of a sandbox, and knows no such bound
    assert succeeded(outcome) == (cell.rig.settings.isolation == Level.PROCESS)
