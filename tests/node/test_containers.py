"""What happens to a task whose image has a root file system of its own: real containers on a real node."""

import json
import os
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest

from tests.node.rig import NODE, Reader, Rig, read_logs, until
from tests.node.roots import root_image, why_no_containers
from tidemill.engine.local import LocalEngine
from tidemill.model.errors import EngineUnavailable
from tidemill.model.ids import AttemptId
from tidemill.model.lease import BlobRef, Outcome, OutcomeKind, TaskLease
from tidemill.model.volume import Volume
from tidemill.node.build.archive import RootConfig
from tidemill.node.isolation.container.isolation import container_tag
from tidemill.node.isolation.container.runtime import Runtime, find_runtime

WHY_NOT = why_no_containers()
pytestmark = pytest.mark.skipif(bool(WHY_NOT), reason=WHY_NOT)


class Yard:
    """One node for all tests, and an image whose command is the script that a task's environment names."""

    def __init__(self, rig: Rig, level: str = "process") -> None:
        rig.settings = replace(rig.settings, isolation=level, task_write_paths=(), slots=8)
        self.rig = rig
        self.engine = rig.engine()
        self.reader = Reader(self.engine)
        self.image = root_image(rig, "/bin/sh", "-c", 'eval "$SCRIPT"')
        self._index = 0

    def lease(self, script: str, *, image: BlobRef | None = None, **changes: Any) -> TaskLease:
        self._index += 1
        lease = self.rig.lease(image or self.image, self._index, **changes)
        return replace(lease, environment={**lease.environment, "SCRIPT": script})

    def launch(self, lease: TaskLease) -> AttemptId:
        self.rig.launch(self.engine, lease)
        return lease.attempt

    def run(self, script: str, **changes: Any) -> Outcome:
        return self.reader.outcome(self.launch(self.lease(script, **changes)))

    @property
    def runtime(self) -> Runtime:
        program = find_runtime()
        assert program is not None
        return Runtime(program, self.rig.data / "node" / "containers")

    def why_not_counted(self) -> str:
        (node,) = self.engine.nodes()
        return "" if "memory-limit" in node.capabilities else "no kernel counts the memory of tasks here"

    def traces(self) -> list[str]:
        """What is left of containers: the runtime's and ours, cgroups, directories of attempts."""
        tag = container_tag(self.rig.data)
        # not rglob, which does not bear that others remove theirs meanwhile
        groups = [name for _, names, _ in os.walk("/sys/fs/cgroup") for name in names if f"-oci-{tag}-" in name]
        return [*self.runtime.left(), *groups]


@pytest.fixture(scope="module")
def yard(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Yard]:
    rig = Rig(tmp_path_factory.mktemp("yard"))
    try:
        yield Yard(rig)
    finally:
        rig.close()


def test_a_task_sees_the_root_of_its_image_and_leaves_output_and_result(yard: Yard) -> None:
    outcome = yard.run('echo hello; echo oops >&2; echo "[$(id -u), $(ls /bin | wc -l)]" > $TIDEMILL_RESULT_FILE')
    assert outcome.kind is OutcomeKind.SUCCEEDED, outcome
    assert outcome.result is not None
    uid, programs = json.loads(outcome.result)
    assert uid >= yard.rig.settings.task_uid_first
    assert programs < 100
    assert outcome.started_at is not None
    assert outcome.started_at <= outcome.ended_at
    said = read_logs(yard.engine, lambda found: len(found) >= 2)
    assert {(line[2], line[5]) for line in said} >= {("stdout", "hello"), ("stderr", "oops")}


@pytest.mark.parametrize(
    ("script", "kind", "code", "number"),
    [
        ("exit 3", OutcomeKind.EXIT_CODE, 3, None),
        ("exit 137", OutcomeKind.EXIT_CODE, 137, None),
        ("kill -9 $$", OutcomeKind.SIGNAL, None, 9),
        ("kill -SEGV $$", OutcomeKind.SIGNAL, None, 11),
    ],
)
def test_exit_codes_and_signals_are_the_commands_own(
    yard: Yard, script: str, kind: OutcomeKind, code: int | None, number: int | None
) -> None:
    outcome = yard.run(script)
    assert (outcome.kind, outcome.exit_code, outcome.signal) == (kind, code, number)


def test_a_command_that_the_image_does_not_hold_is_a_launch_error(yard: Yard) -> None:
    outcome = yard.run("", image=root_image(yard.rig, "/no/such/program"))
    assert outcome.kind is OutcomeKind.LAUNCH_ERROR
    assert "No such file" in outcome.message


def test_what_the_image_says_of_its_environment_is_the_first_word_and_not_the_last(yard: Yard) -> None:
    config = RootConfig(environment={"HOME": "/etc", "A": "image", "B": "image"}, directory="/etc")
    image = root_image(
        yard.rig,
        "/bin/sh",
        "-c",
        'echo "[\\"$A\\", \\"$B\\", \\"$HOME\\", \\"$(pwd)\\"]" > $TIDEMILL_RESULT_FILE',
        config=config,
    )
    lease = yard.lease("", image=image)
    yard.launch(replace(lease, environment={"B": "job"}))
    outcome = yard.reader.outcome(lease.attempt)
    assert outcome.result is not None, outcome
    assert json.loads(outcome.result) == ["image", "job", "/etc", "/etc"]


def test_a_task_that_needs_more_memory_than_its_limit_is_out_of_memory(yard: Yard) -> None:
    if why := yard.why_not_counted():
        pytest.skip(why)
    outcome = yard.run("dd if=/dev/zero of=/dev/null bs=200M count=1", memory_mb=64)
    assert outcome.kind is OutcomeKind.OUT_OF_MEMORY, outcome
    assert "64 MB" in outcome.message


def test_a_timeout_ends_all_that_is_in_the_container(yard: Yard) -> None:
    stubborn = "trap '' TERM; setsid sh -c 'trap \"\" TERM; while :; do sleep 1; done' & while :; do sleep 1; done"
    outcome = yard.run(stubborn, timeout_s=0.5, grace_s=0.3)
    assert outcome.kind is OutcomeKind.TIMED_OUT
    until(lambda: not yard.traces())


def test_sigterm_reaches_a_task_that_is_cancelled(yard: Yard) -> None:
    script = "trap 'echo 9 > $TIDEMILL_RESULT_FILE; exit 0' TERM; while :; do sleep 0.05; done"
    attempt = yard.launch(yard.lease(script))
    yard.reader.started(attempt)
    yard.engine.cancel(NODE, [attempt], 10.0, yard.rig.term)
    outcome = yard.reader.outcome(attempt)
    assert (outcome.kind, outcome.result) == (OutcomeKind.CANCELLED, "9\n")


def test_what_is_cancelled_while_its_container_is_made_never_runs(yard: Yard) -> None:
    lease = yard.lease("sleep 60")
    yard.launch(lease)
    yard.engine.cancel(NODE, [lease.attempt], 0.0, yard.rig.term)
    assert yard.reader.outcome(lease.attempt).kind is OutcomeKind.CANCELLED
    until(lambda: not yard.traces())


def test_a_task_in_a_container_has_no_power_over_it(yard: Yard) -> None:
    powers = ("touch /left", "touch /bin/left", "touch /dev/left", "chmod 777 /bin/busybox", "mount -t tmpfs none /tmp")
    more = (
        "mknod /tmp/device c 1 3",
        "unshare -r true",
        "echo 1 > /proc/sys/kernel/domainname",
        "chmod 777 /.tidemill",
    )
    trials = "; ".join(
        f"({power}) 2>/dev/null && echo '{power}' >> $TIDEMILL_WORK_DIR/could" for power in (*powers, *more)
    )
    counts = "grep -cE 'Cap(Prm|Eff|Bnd|Amb):.0000000000000000' /proc/self/status > $TIDEMILL_RESULT_FILE"
    outcome = yard.run(
        f"{trials}; {counts}; test ! -e $TIDEMILL_WORK_DIR/could || {{ cat $TIDEMILL_WORK_DIR/could; exit 1; }}"
    )
    assert (outcome.kind, outcome.result) == (OutcomeKind.SUCCEEDED, "4\n"), read_logs(yard.engine, len)


def test_a_task_in_a_container_has_a_root_that_nobody_writes_and_sees_no_process_but_its_own(yard: Yard) -> None:
    # nobody but root may write there, and root may not
    assert yard.run("grep -q ' / [a-z0-9]* ro[, ]' /proc/mounts").kind is OutcomeKind.SUCCEEDED
    outcome = yard.run("ls /proc | grep -c '^[0-9]' > $TIDEMILL_RESULT_FILE")
    assert outcome.result is not None
    # the launcher, the shell, and the two of the pipe
    assert int(outcome.result) <= 4


def test_a_volume_is_of_its_size_and_stays_empty_where_it_is_read_only(yard: Yard) -> None:
    volumes = (Volume(path="/scratch", size_mb=1), Volume(path="/etc/none", size_mb=1, read_only=True))
    script = (
        "dd if=/dev/zero of=/scratch/all bs=64k count=100 2>&1 | grep -q 'No space left' && touch /tmp/a && "
        "! touch /etc/none/a && test $(wc -c < /scratch/all) = 1048576"
    )
    assert yard.run(script, volumes=volumes, memory_mb=64).kind is OutcomeKind.SUCCEEDED
    refused = yard.run("true", volumes=(Volume(path="/.tidemill", size_mb=1),))
    assert "would hide" in refused.message


@pytest.mark.parametrize("network", [True, False])
def test_a_task_in_a_container_finds_its_arguments_with_a_network_or_without(yard: Yard, network: bool) -> None:
    # two lines of headings, then one an interface
    script = 'echo "[$(wc -l < /proc/net/dev), $(wget -qO- $BL_EXECUTION_DATA_URL)]" > $TIDEMILL_RESULT_FILE'
    outcome = yard.run(script, network=network, arguments='{"a": 1}')
    assert outcome.kind is OutcomeKind.SUCCEEDED, outcome
    assert outcome.result is not None
    lines, document = json.loads(outcome.result)
    assert document == {"tasks": [{"a": 1}]}
    assert network or lines == 3


def test_nothing_of_a_container_is_left_behind(yard: Yard) -> None:
    assert yard.run("sleep 60 & echo left > /tmp/left && echo left > /dev/shm/left").kind is OutcomeKind.SUCCEEDED
    until(lambda: not yard.traces())


def again(rig: Rig) -> LocalEngine:
    """An engine of the node that takes the place of one that was killed."""

    def connected() -> LocalEngine | None:
        engine = rig.engine()
        try:
            engine.nodes()
        except EngineUnavailable:
            return None
        return engine

    engine = until(connected)
    assert isinstance(engine, LocalEngine)
    return engine


def test_a_node_deletes_the_containers_of_one_that_was_killed(rig: Rig) -> None:
    yard = Yard(rig)
    attempt = yard.launch(yard.lease("trap '' TERM; while :; do sleep 1; done"))
    yard.reader.started(attempt)
    (name,) = yard.runtime.left()
    rig.kill_node()
    assert name in yard.runtime.left()
    assert Reader(again(rig)).outcome(attempt).kind is OutcomeKind.LOST
    assert not yard.traces()


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Yard]:
    rig = Rig(tmp_path_factory.mktemp("whole"))
    try:
        yield Yard(rig, "container")
    finally:
        rig.close()


def test_at_level_container_a_built_image_runs_in_one_too(whole: Yard) -> None:
    script = 'echo "[$(ls -a / | wc -l), \\"$(cat /etc/shadow 2>&1)\\"]" > $TIDEMILL_RESULT_FILE'
    outcome = whole.run("", image=whole.rig.shell(script))
    assert outcome.kind is OutcomeKind.SUCCEEDED, outcome
    assert outcome.result is not None
    _, shadow = json.loads(outcome.result)
    assert "No such file" in shadow


def test_at_level_container_a_folder_is_built_in_one(whole: Yard) -> None:
    lease = whole.rig.build_lease({"main.sh": "echo hello", "blaxel.toml": '[entrypoint]\nprod = "sh main.sh"\n'})
    whole.engine.launch(NODE, [lease], whole.rig.term)
    outcome = whole.reader.outcome(lease.attempt)
    assert outcome.kind is OutcomeKind.SUCCEEDED, outcome
