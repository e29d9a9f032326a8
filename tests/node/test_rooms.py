"""The private directory of a task holds what it may, and is gone with the task, whatever is in it."""

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.node.prison import Node, Prison, prison, why_not, why_not_at
from tests.node.rig import NODE, Reader, Rig, until
from tests.node.test_survival import reconnected
from tidemill.engine.local import LocalEngine
from tidemill.model.lease import OutcomeKind
from tidemill.model.volume import Volume
from tidemill.node.isolation.level import Level
from tidemill.node.memory import Known
from tidemill.node.rooms import held

MB = 1 << 20
as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can start nodes of several users")
PRISONS = [*((kind, Level.PROCESS) for kind in Node), (Node.ROOT, Level.SANDBOX), (Node.ORDINARY, Level.SANDBOX)]
# those that may mount hold a directory to its size; of the others it is looked after
LOOKED_AFTER = {Node.CONTAINED, Node.ORDINARY}
FILL = "cd $TIDEMILL_WORK_DIR && error=$(dd if=/dev/zero of=file bs=64k count=1000 2>&1)"
NOTHING = Known(0, 0)


def mounts_of(pid: int) -> list[list[str]]:
    return [line.split() for line in Path(f"/proc/{pid}/mounts").read_text().splitlines()]


def place_of(rig: Rig, engine: LocalEngine, script: str, index: int, disk_mb: int = 16) -> str:
    """What a task has to say, once it has ended."""
    outcome = rig.run(engine, rig.lease(rig.shell(f"({script}) > {rig.root}/said-{index}"), index, disk_mb=disk_mb))
    assert outcome.kind is OutcomeKind.SUCCEEDED, outcome
    return (rig.root / f"said-{index}").read_text()


@pytest.fixture(scope="module", params=PRISONS, ids=lambda place: f"{place[0].name.lower()}-{place[1]}")
def place(request: pytest.FixtureRequest) -> tuple[Node, Level]:
    found: tuple[Node, Level] = request.param
    return found


@pytest.fixture(scope="module")
def cell(place: tuple[Node, Level]) -> Iterator[Prison]:
    if os.geteuid() != 0:
        pytest.skip("only root can start nodes of several users")
    if why := why_not(place[0]) or why_not_at(place[1]):
        pytest.skip(why)
    with prison(*place) as found:
        yield found


def test_a_task_that_fills_its_directory_is_the_only_one_to_notice(cell: Prison, place: tuple[Node, Level]) -> None:
    if place[0] in LOOKED_AFTER:
        outcome = cell.try_inside(f"{FILL}; sleep 60", disk_mb=16)
        assert (outcome.kind, outcome.signal) == (OutcomeKind.SIGNAL, 9)
        assert outcome.message == "its directory held more than the 16 MB that it may (runtime.diskPercent)"
    else:
        full = "echo $error | grep -q 'No space left' && test $(stat -c %s file) -le 16777216 && rm file && echo > more"
        outcome = cell.try_inside(f"{FILL}; {full}", disk_mb=16)
        assert outcome.kind is OutcomeKind.SUCCEEDED, outcome
    assert cell.try_inside("echo > $TIDEMILL_WORK_DIR/more", disk_mb=16).kind is OutcomeKind.SUCCEEDED


def test_with_a_size_it_is_as_without(cell: Prison) -> None:
    script = "cd $TIDEMILL_WORK_DIR && test \"$(stat -c %a .)\" = 700 && printf '#!/bin/sh\\nexit 0\\n' > run && "
    script += "chmod +x run && ./run && mkdir -p a/b && ln -s /nowhere a/link && test -s $TIDEMILL_TASK_FILE && "
    script += "echo '{\"n\": 1}' > $TIDEMILL_RESULT_FILE"
    outcome = cell.try_inside(script, disk_mb=16)
    assert (outcome.kind, outcome.result) == (OutcomeKind.SUCCEEDED, '{"n": 1}\n')
    folder = 'test -w $TIDEMILL_WORK_DIR && test -z "$(ls -A $VICTIM_WORK 2>/dev/null)"'
    assert cell.try_inside(folder, disk_mb=None).kind is OutcomeKind.SUCCEEDED


@as_root
def test_nothing_of_it_is_left_on_the_machine_or_in_the_node(rig: Rig, engine: LocalEngine) -> None:
    before = Path("/proc/mounts").read_text()
    script = f"cp -r /etc/ssl $TIDEMILL_WORK_DIR; echo $TIDEMILL_WORK_DIR > {rig.root}/work-$TASK_INDEX"
    leases = [rig.lease(rig.shell(script), index, disk_mb=16, memory_mb=64) for index in range(12)]
    rig.launch(engine, *leases)
    reader = Reader(engine)
    for lease in leases:
        assert reader.outcome(lease.attempt).kind is OutcomeKind.SUCCEEDED
    works = [file.read_text().strip() for file in rig.root.glob("work-*")]
    assert len({*works}) == 12
    until(lambda: not any(Path(f"/proc/{rig.node_pid}/root{work}").exists() for work in works))
    mounted = [words[1] for words in mounts_of(rig.node_pid) if "tidemill-" in words[1]]
    # for the next ones
    assert [list(Path(f"/proc/{rig.node_pid}/root{path}").iterdir()) for path in mounted] == [[] for _ in mounted]
    assert Path("/proc/mounts").read_text() == before


@as_root
def test_the_directory_of_the_next_lies_in_the_same_mount_and_is_another(rig: Rig, engine: LocalEngine) -> None:
    """For a mount takes longer than a short task; what was allowed somebody, or is watched, is the directory's."""
    report = "cd $TIDEMILL_WORK_DIR; dirname $PWD; stat -c '%i %a' .; ls -A; chmod 777 ."
    (mount, number, mode, *names), (mount2, number2, *same) = (place_of(rig, engine, report, i).split() for i in (0, 1))
    assert (mode, names) == ("700", ["task.json"])
    assert (mount, [mode, *names]) == (mount2, same)
    assert number != number2


@as_root
@pytest.mark.parametrize(
    "script",
    [
        pytest.param("mkdir $TIDEMILL_WORK_DIR/left", id="somebody left a folder"),
        pytest.param("echo > $TIDEMILL_WORK_DIR/left", id="somebody left a file"),
    ],
)
def test_a_mount_in_which_something_is_left_is_not_used_again(rig: Rig, engine: LocalEngine, script: str) -> None:
    first = place_of(rig, engine, f"dirname $TIDEMILL_WORK_DIR; {script}", 0)
    assert place_of(rig, engine, "dirname $TIDEMILL_WORK_DIR", 1) != first
    until(lambda: first.strip() not in Path(f"/proc/{rig.node_pid}/mounts").read_text())


@as_root
def test_a_mount_is_not_used_again_while_somebody_has_a_file_of_it_that_is_gone(rig: Rig, engine: LocalEngine) -> None:
    """It takes room, though nobody can see it: the next one would have less."""
    script = f"cd $TIDEMILL_WORK_DIR && echo x > file && pwd > {rig.root}/new && mv {rig.root}/new {rig.root}/work && "
    lease = rig.lease(rig.shell(f"{script} until test -e {rig.root}/open; do sleep 0.01; done; rm file"), disk_mb=16)
    rig.launch(engine, lease)
    until((rig.root / "work").exists)
    work = (rig.root / "work").read_text().strip()
    with Path(f"/proc/{rig.node_pid}/root{work}/file").open():
        (rig.root / "open").touch()
        assert Reader(engine).outcome(lease.attempt).kind is OutcomeKind.SUCCEEDED
        assert place_of(rig, engine, "dirname $TIDEMILL_WORK_DIR", 1).strip() != str(Path(work).parent)


@as_root
def test_mounts_are_used_again_for_their_size_only(rig: Rig, engine: LocalEngine) -> None:
    size = "df --output=size -m $TIDEMILL_WORK_DIR | tail -n 1"
    assert [place_of(rig, engine, size, index, mb).strip() for index, mb in enumerate((16, 8, 16))] == ["16", "8", "16"]


@as_root
def test_what_a_killed_node_had_mounted_goes_with_it(rig: Rig, engine: LocalEngine) -> None:
    script = f"echo x > $TIDEMILL_WORK_DIR/file; echo $TIDEMILL_WORK_DIR > {rig.root}/new; mv {rig.root}/new "
    rig.launch(engine, rig.lease(rig.shell(f"{script} {rig.root}/work; sleep 600"), disk_mb=16))
    until((rig.root / "work").exists)
    work = Path((rig.root / "work").read_text().strip())
    assert list(work.parent.iterdir()) == []  # the machine sees where it is mounted, and nothing of it
    rig.kill_node()
    assert reconnected(engine)
    assert not work.parent.exists()


@as_root
def test_a_task_with_mounts_of_its_own_keeps_none_of_what_others_had(rig: Rig) -> None:
    """It has, in them, what the node had mounted when it started."""
    engine = rig.engine(isolation=Level.PROCESS)
    report = "echo $TIDEMILL_WORK_DIR > {root}/new; mv {root}/new {root}/work; exec sleep 600"
    filling = rig.shell("echo x > $TIDEMILL_WORK_DIR/file; " + report.format(root=rig.root))
    first = rig.lease(filling, 0, disk_mb=16, timeout_s=600)
    rig.launch(engine, first)
    until((rig.root / "work").exists)
    theirs = (rig.root / "work").read_text().strip()
    own = (Volume(path="/tidemill-data", size_mb=1),)
    second = rig.lease(rig.shell(f"echo $$ > {rig.root}/pid; exec sleep 600"), 1, volumes=own, timeout_s=600)
    rig.launch(engine, second)
    pid = rig.pid_from("pid")
    assert [path.name for path in Path(f"/proc/{pid}/root{theirs}").iterdir()] == ["file", "task.json"]
    reader = Reader(engine)
    engine.cancel(NODE, [first.attempt], 0, rig.term)
    reader.outcome(first.attempt)
    until(lambda: not Path(f"/proc/{pid}/root{theirs}").exists())
    assert theirs not in Path(f"/proc/{pid}/mountinfo").read_text()
    engine.cancel(NODE, [second.attempt], 0, rig.term)
    assert reader.outcome(second.attempt).kind is OutcomeKind.CANCELLED


def test_all_that_is_in_a_directory_counts_and_links_lead_nowhere(tmp_path: Path) -> None:
    room, outside = tmp_path / "room", tmp_path / "outside"
    room.mkdir()
    outside.mkdir()
    (outside / "big").write_bytes(b"x" * 8 * MB)
    assert held({room: NOTHING})[room] < MB
    (room / "outside").symlink_to(outside)
    (room / "big").symlink_to(outside / "big")
    assert held({room: NOTHING})[room] < MB
    deep = room.joinpath(*["d"] * 200)
    deep.mkdir(parents=True)
    (deep / "file").write_bytes(b"x" * 2 * MB)
    (room / "file").write_bytes(b"x" * 3 * MB)
    assert 5 * MB <= held({room: NOTHING})[room] < 10 * MB
    with (room / "sparse").open("wb") as sparse:
        sparse.truncate(1 << 40)
    assert held({room: NOTHING})[room] < 10 * MB
    shutil.rmtree(room)
    assert held({room: NOTHING}) == {room: 0}


def test_files_with_nothing_in_them_are_bounded_too(cell: Prison, place: tuple[Node, Level]) -> None:
    """What they take is memory of the kernel, which nobody else counts where there are no groups."""
    if place[0] in LOOKED_AFTER:
        pytest.skip("this node looks after directories: tests/node/test_trees.py")
    count = "cd $TIDEMILL_WORK_DIR && for i in $(seq 40); do touch $(seq -f $i-%g 100) 2>/dev/null || break; done; "
    count += "test $(ls | wc -l) -gt 1000 && test $(ls | wc -l) -lt 2100"
    assert cell.try_inside(count, disk_mb=4).kind is OutcomeKind.SUCCEEDED
