"""An image of a registry from its name to a task that runs it, on a real node that confines the pull as any build."""

import json
from collections.abc import Iterator
from dataclasses import replace

import pytest

from tests.node.rig import NODE, Reader, Rig, read_logs
from tests.node.roots import fill, why_no_containers
from tests.registry import PASSWORD, USER, RunningRegistry, running_registry, why_no_registry
from tidemill.engine.local import LocalEngine
from tidemill.model.ids import AttemptId, OwnerKind
from tidemill.model.image import image_blob, incoming_blob
from tidemill.model.lease import BlobRef, BuildLease, Outcome, OutcomeKind, Pull

WHY_NOT = why_no_containers() or why_no_registry()
pytestmark = pytest.mark.skipif(bool(WHY_NOT), reason=WHY_NOT)

CONFIG = {"Entrypoint": ["/bin/sh", "-c"], "Cmd": ["echo $GREETING; id -u; cat /data"], "Env": ["GREETING=hello"]}


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningRegistry]:
    folder = tmp_path_factory.mktemp("registry")
    root = folder / "root"
    root.mkdir()
    fill(root, {"data": "of the image"})
    (root / "data").chmod(0o600)
    with running_registry(folder, has_password=True) as found:
        found.push("team/tool", [root], tag="v1", config=CONFIG)
        yield found


@pytest.fixture
def engine(rig: Rig) -> LocalEngine:
    return rig.engine(isolation="process")


def pull(rig: Rig, engine: LocalEngine, reference: str, credentials: str) -> Outcome:
    lease = BuildLease(
        attempt=AttemptId(OwnerKind.BUILD, 11, 0, 1),
        log_key=3,
        source=None,
        pull=Pull(reference=reference, credentials=credentials),
        memory_mb=1024,
        timeout_s=60,
        max_unpacked_bytes=1 << 30,
        max_entries=10_000,
    )
    engine.launch(NODE, [lease], rig.term)
    return Reader(engine).outcome(lease.attempt)


def test_what_is_pulled_runs(rig: Rig, engine: LocalEngine, registry: RunningRegistry) -> None:
    outcome = pull(rig, engine, f"{registry.host}/team/tool:v1", f"{USER}:{PASSWORD}")
    assert outcome.kind is OutcomeKind.SUCCEEDED, outcome
    assert outcome.result is not None
    digest = json.loads(outcome.result)["digest"]
    (rig.blobs / incoming_blob(11, 1)).rename(rig.blobs / image_blob(digest))
    lease = rig.lease(BlobRef(name=image_blob(digest), digest=digest))
    assert rig.run(engine, replace(lease, environment={"GREETING": "welcome"})).kind is OutcomeKind.SUCCEEDED
    said = [line[5] for line in read_logs(engine, lambda found: len(found) >= 5)]
    # what only root may read in the image, its tasks may read
    assert said[-3] == "welcome"
    assert int(said[-2]) >= rig.settings.task_uid_first
    assert said[-1] == "of the image"


def test_what_a_node_cannot_pull_it_says_and_leaves_nothing_of_its_credentials(
    rig: Rig, engine: LocalEngine, registry: RunningRegistry
) -> None:
    outcome = pull(rig, engine, f"{registry.host}/team/tool:v1", f"{USER}:open says me")
    assert outcome.kind is OutcomeKind.EXIT_CODE
    assert "does not take the credentials" in outcome.message
    holding = [path for path in rig.data.rglob("*") if path.is_file() and b"open says me" in path.read_bytes()]
    assert not holding
