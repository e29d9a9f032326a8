"""A folder with a Dockerfile, from its archive to tasks that run its image, by real builds in real containers."""

import json
import tarfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import psutil
import pytest

from tests.node.dockerfiles import SHELL, Yard, why_no_dockerfiles, yard
from tests.node.rig import NODE, Reader, Rig, read_logs, until
from tests.node.roots import fill
from tests.registry import PASSWORD, USER, RunningRegistry, docker_config, running_registry, why_no_registry
from tidemill.model.errors import EngineUnavailable
from tidemill.model.lease import OutcomeKind
from tidemill.model.protections import Protection, read_had

WHY_NOT = why_no_dockerfiles() or why_no_registry()
pytestmark = pytest.mark.skipif(bool(WHY_NOT), reason=WHY_NOT)

SLEEPS = f"{SHELL}RUN exec sleep 4242\n"


@pytest.fixture(scope="module")
def ground(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Yard]:
    with yard(tmp_path_factory.mktemp("dockerfiles")) as found:
        yield found


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningRegistry]:
    folder = tmp_path_factory.mktemp("registry")
    root = folder / "root"
    root.mkdir()
    fill(root, {"base": "of the base"})
    with running_registry(folder, has_password=True) as found:
        found.push("team/base", [root], tag="v1", config={"Env": ["FROM_BASE=yes"], "Cmd": ["/bin/sh"]})
        yield found


def sleeper(node_pid: int) -> psutil.Process:
    """The process of a step that sleeps, once it is there."""

    def look() -> psutil.Process | None:
        for process in psutil.Process(node_pid).children(recursive=True):
            try:
                if process.cmdline() == ["sleep", "4242"]:
                    return process
            except psutil.Error:
                continue
        return None

    found = until(look)
    assert isinstance(found, psutil.Process)
    return found


def traces(rig: Rig) -> list[str]:
    """What is left of builds: the runtime's, and directories of attempts."""
    return [
        str(path)
        for folder in ("node/containers/state", "node/containers/bundles", "work")
        for path in (rig.data / folder).iterdir()
    ]


STAGES = f"""
ARG STAGE=wrong
{SHELL.replace("FROM scratch", "FROM scratch AS first")}
RUN mkdir /made && echo of a step > /made/step && chown 1000:1000 /made && chmod 600 /made/step
FROM ${{STAGE}} AS second
ARG GREETING
ENV GREETING="$GREETING you" OTHER=kept
WORKDIR /srv/app
COPY . .
ADD packed.tar.gz /unpacked/
COPY --from=first /made/step /made/copy
RUN mkdir -m 777 /tmp
USER 1000
RUN id -u > /tmp/who
USER 0
RUN cp /tmp/who /who
USER 1000
ONBUILD RUN false
ENTRYPOINT ["/bin/sh", "-c"]
CMD ["pwd; echo $GREETING $OTHER $OF_THE_JOB; ls -A; cat /made/step /made/copy /who /unpacked/base; id -u"]
"""


def test_what_a_dockerfile_says_is_what_its_tasks_run(ground: Yard, tmp_path: Path) -> None:
    rig = ground.rig
    (tmp_path / "base").write_text("unpacked\n")
    with tarfile.open(tmp_path / "packed.tar.gz", "w:gz") as packed:
        packed.add(tmp_path / "base", "base")
    files: dict[str, str | bytes] = {
        "packed.tar.gz": (tmp_path / "packed.tar.gz").read_bytes(),
        "blaxel.toml": '[build.args]\nSTAGE = "first"\n[runtime]\nmaxConcurrentTasks = 3\n',
        ".env.build": "GREETING=hello\n",
        ".docker/config.json": docker_config("registry.example.com"),
        ".dockerignore": "secrets\n*.pem\npacked.tar.gz\n!packed.tar.gz\nbusybox\n!busybox\n",
        "secrets/key": "left out",
        "key.pem": "left out",
        "main.sh": "kept",
    }
    outcome = ground.build(STAGES, files)
    assert outcome.kind is OutcomeKind.SUCCEEDED, outcome.message
    assert outcome.result is not None
    assert json.loads(outcome.result)["manifest"]["maxConcurrentTasks"] == 3
    assert json.loads(outcome.result)["command"][0] == "/bin/sh"
    lease = replace(rig.lease(ground.image(outcome)), environment={"OF_THE_JOB": "set"}, log_key=8)
    ended = rig.run(ground.engine, lease)
    assert ended.kind is OutcomeKind.SUCCEEDED, ended
    said = [
        line[5]
        for line in read_logs(ground.engine, lambda found: any(line[5].isdigit() for line in found[-1:]))
        if line[5]
    ]
    begin = said.index("/srv/app")
    folder = [".dockerignore", "Dockerfile", "blaxel.toml", "busybox", "main.sh", "packed.tar.gz"]
    assert said[begin + 1 : begin + 8] == ["hello you kept set", *folder]
    assert said[begin + 8 : begin + 12] == ["of a step", "of a step", "1000", "unpacked"]
    # whatever USER says
    assert rig.settings.task_uid_first <= int(said[begin + 12]) < rig.settings.dockerfile_uid_first
    assert traces(rig) == []


def test_a_base_of_a_registry_is_pulled_with_credentials_that_no_step_finds(
    ground: Yard, registry: RunningRegistry
) -> None:
    # a step looks at all that it sees, the processes around it included
    searches = (
        'RUN test "$FROM_BASE" = yes && cat /base && '
        'for p in $(ls /proc | grep -E "^[0-9]+$"); do '
        f'if grep -sq "[{PASSWORD[0]}]{PASSWORD[1:]}" /proc/$p/environ /proc/$p/cmdline; '
        "then exit 7; fi; if ls /proc/$p/root/ 2>/dev/null | grep -q tidemill; then exit 8; fi; done\n"
    )
    dockerfile = f"ARG BASE={registry.host}/team/base\nFROM $BASE:v1\n{searches}"
    outcome = ground.build(dockerfile, {".docker/config.json": docker_config(registry.host)})
    assert outcome.kind is OutcomeKind.SUCCEEDED, outcome.message
    assert outcome.result is not None
    assert json.loads(outcome.result)["command"] == ["/bin/sh"]
    without = ground.build(dockerfile)
    assert without.kind is OutcomeKind.EXIT_CODE
    assert f"{registry.host}/team/base:v1" in without.message
    wrong = ground.build(dockerfile, {".docker/config.json": docker_config(registry.host, USER, "open says me")})
    assert f"begins with {registry.host}/team/base:v1, which cannot be pulled" in wrong.message


@pytest.mark.parametrize(
    ("dockerfile", "says"),
    [
        (f"{SHELL}RUN echo so far $((40 + 2)); echo stderr $((40 + 3)) >&2\nRUN exit 3\n", "step 5/5 (RUN exit 3): "),
        ("FROM scratch\nCOPY missing /there\n", "step 2/2 (COPY missing /there): "),
        ("FROM scratch\nRUM true\n", "RUM"),
        ("FROM scratch\nCOPY busybox /x\n", "neither an entrypoint nor a command"),
    ],
)
def test_what_cannot_be_built_says_which_step_and_why(ground: Yard, dockerfile: str, says: str) -> None:
    outcome = ground.build(dockerfile)
    assert outcome.kind is OutcomeKind.EXIT_CODE, outcome
    assert says in outcome.message
    said = ground.log("error: " + outcome.message)
    assert ("so far 42" in said and "stderr 43" in said) or "so far" not in dockerfile


def test_an_image_bigger_than_an_archive_may_be_is_refused(ground: Yard) -> None:
    outcome = ground.build(f"{SHELL}RUN for n in 1 2 3 4 5 6 7 8 9; do : > /$n$n; done\nCMD x\n", max_entries=30)
    assert "more than 30 entries" in outcome.message


def test_a_step_is_nobody_on_the_machine_and_ends_when_its_build_is_cancelled(ground: Yard) -> None:
    lease = ground.lease({"Dockerfile": SLEEPS})
    ground.start(lease)
    process = sleeper(ground.rig.node_pid)
    status = Path(f"/proc/{process.pid}/status").read_text()
    (uids,) = [line.split()[1:] for line in status.splitlines() if line.startswith("Uid:")]
    first = ground.rig.settings.dockerfile_uid_first
    assert all(int(uid) in range(first, first + 64 * 65_536) for uid in uids)
    ground.engine.cancel(NODE, [lease.attempt], 5, ground.rig.term)
    assert ground.reader.outcome(lease.attempt).kind is OutcomeKind.CANCELLED
    assert not process.is_running()
    until(lambda: traces(ground.rig) == [])


def test_a_build_that_takes_too_long_is_ended_with_all_its_steps(ground: Yard) -> None:
    outcome = ground.build(f"{SHELL}RUN setsid sleep 4242 & exec sleep 4242\n", timeout_s=3)
    assert outcome.kind is OutcomeKind.TIMED_OUT
    assert [process for process in psutil.process_iter() if _says(process, "sleep", "4242")] == []
    until(lambda: traces(ground.rig) == [])


def test_a_step_that_needs_more_memory_than_a_build_has_is_out_of_memory(ground: Yard) -> None:
    (node,) = ground.engine.nodes()
    if "memory-limit" not in node.capabilities:
        pytest.skip("no kernel counts the memory of builds here")
    outcome = ground.build(f"{SHELL}RUN dd if=/dev/zero of=/dev/null bs=400M count=1\n", memory_mb=256)
    assert outcome.kind is OutcomeKind.OUT_OF_MEMORY, outcome


def test_what_a_killed_node_was_building_is_gone_with_the_next(rig: Rig) -> None:
    ground = Yard(rig, rig.engine(), Reader(rig.engine()))
    lease = ground.lease({"Dockerfile": SLEEPS})
    ground.start(lease)
    process = sleeper(rig.node_pid)
    rig.kill_node()
    until(lambda: not process.is_running())

    def next_one() -> bool:
        try:
            rig.engine().nodes()
        except EngineUnavailable:
            return False
        return True

    until(next_one)
    assert traces(rig) == []
    assert Reader(rig.engine()).outcome(lease.attempt).kind is OutcomeKind.LOST


@pytest.mark.parametrize(
    "changes",
    [{"dockerfile_uid_first": 0}, {"dockerfile_uid_first": 200_000, "task_uid_count": 100_000}],
    ids=["not wanted", "all numbers are those of tasks"],
)
def test_where_no_dockerfile_is_built_its_folder_is_refused_with_words(rig: Rig, changes: dict[str, int]) -> None:
    engine = rig.engine(**changes)
    ground = Yard(rig, engine, Reader(engine))
    assert "dockerfiles" not in engine.nodes()[0].capabilities
    outcome = ground.build(SHELL)
    assert outcome.kind is OutcomeKind.EXIT_CODE
    assert "this server builds none" in outcome.message


def test_an_image_that_says_nothing_to_run_runs_what_the_folder_says(ground: Yard) -> None:
    dockerfile = "FROM scratch\nCOPY busybox /x\n"
    outcome = ground.build(dockerfile, {"blaxel.toml": "[entrypoint]\nprod = \"/x echo 'a b'\"\n"})
    assert outcome.result is not None, outcome.message
    assert json.loads(outcome.result)["command"] == ["/x", "echo", "a b"]


def test_a_node_that_builds_dockerfiles_says_so_and_attempts_what_held_them(ground: Yard) -> None:
    (node,) = ground.engine.nodes()
    assert "dockerfiles" in node.capabilities
    outcome = ground.build(
        'FROM scratch\nCOPY busybox /x\nCMD ["/x"]\n', {"blaxel.toml": '[entrypoint]\nprod = "/y"\n'}
    )
    assert outcome.result is not None, outcome.message
    assert json.loads(outcome.result)["command"] == ["/x"]
    assert "[entrypoint] in blaxel.toml says nothing" in ground.log("the image says what it runs")
    assert outcome.protections is not None
    had = read_had(outcome.protections)
    assert had.level == "container"
    assert {Protection.OWN_ROOT, Protection.HIDDEN_PROCESSES, Protection.SECCOMP} <= {*had.by}
    # it is root in there, and shares its numbers
    assert {Protection.CAPABILITIES, Protection.OWN_UID, Protection.LANDLOCK}.isdisjoint(had.by)


def _says(process: psutil.Process, *words: str) -> bool:
    try:
        return process.cmdline() == [*words]
    except psutil.Error:
        return False
