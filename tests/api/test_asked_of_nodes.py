"""``spec.runtime.network`` and ``spec.volumes`` on their way from a request, or an archive, to the lease of a task."""

from typing import Any

import pytest

from tests.api.asking import Api
from tests.api.test_access import assert_problem
from tidemill.model.ids import AttemptId, OwnerKind
from tidemill.model.lease import TaskLease
from tidemill.model.volume import Volume
from tidemill.node.channel.codec import read_lease, write_lease
from tidemill.scheduler.leases import LeaseMaker
from tidemill.scheduler.policy import SchedulerPolicy
from tidemill.store import executions

PATH = "/v0/jobs/sweep"


def put(api: Api, **runtime: object) -> Any:
    return api.put(PATH, {"spec": {"runtime": runtime}})


def shown(api: Api) -> str:
    found: str = api.get(PATH).json()["spec"]["runtime"].get("network", "on")
    return found


def lease_of(api: Api, disk_percent: int = 0) -> TaskLease:
    """That of the task of a new execution, as its node reads it; ``disk_percent`` is the server's setting."""
    found = api.post(f"{PATH}/executions", b"").json()["executionId"]
    key = api.parts.database.read(lambda connection: executions.find(connection, "main", found)).key
    policy = SchedulerPolicy(task_url="http://here/v0", run_url="http://here", disk_percent=disk_percent)
    maker = LeaseMaker(database=api.parts.database, keyring=api.parts.keyring, policy=policy)
    (lease,) = maker.make([AttemptId(OwnerKind.TASK, key, 0, 1)]).leases
    assert isinstance(lease, TaskLease)
    read = read_lease(write_lease(lease))
    assert read == lease
    return read


def leased(api: Api) -> bool:
    """Whether such a task has a network."""
    return lease_of(api).network


def test_it_is_on_unless_it_is_said(api: Api) -> None:
    api.deployed()
    assert shown(api) == "on"
    assert leased(api)


def test_none_is_kept_in_the_revision_and_in_the_leases_of_its_tasks(api: Api) -> None:
    api.deployed(network="none")
    assert shown(api) == "none"
    assert not leased(api)
    put(api, timeout=7)
    assert shown(api) == "none"
    assert len(api.revisions("sweep")) == 2
    assert not leased(api)


@pytest.mark.parametrize("back", ["on", None, ""])
def test_on_null_and_nothing_are_the_default(api: Api, back: str | None) -> None:
    api.deployed(network="none")
    assert "network" not in put(api, network=back).json()["spec"]["runtime"]
    assert leased(api)


def test_another_word_is_400_and_changes_nothing(api: Api) -> None:
    api.deployed(network="none")
    message = assert_problem(put(api, network="host"), 400, "INVALID")
    assert message == 'spec.runtime.network is "host"; it must be "on", or "none" for no network but its own loopback'
    assert shown(api) == "none"


@pytest.mark.parametrize(
    ("sent", "toml", "expected"),
    [
        ({}, "none", "none"),
        ({}, None, "on"),
        ({"network": "on"}, "none", "on"),
        ({"network": "none"}, "on", "none"),
        ({}, "nonsense", "none"),
    ],
)
def test_the_archives_word_counts_when_the_request_has_none(
    api: Api, sent: dict[str, object], toml: object, expected: str
) -> None:
    # as `bl` does: it knows no such member, and sends the archive as it is
    api.upload(api.post("/v0/jobs?upload=true", {"metadata": {"name": "sweep"}, "spec": {"runtime": sent}}))
    api.finish_build(manifest={"network": toml})
    assert shown(api) == expected


@pytest.mark.parametrize(
    ("percent", "setting", "expected"),
    [(None, 0, None), (None, 50, 100), (10, 50, 20), (95, 0, 190), (0, 25, 50), (None, 1, 4)],
)
def test_what_a_directory_may_hold_is_a_share_of_memory(
    api: Api, percent: int | None, setting: int, expected: int | None
) -> None:
    api.deployed(memory=200, diskPercent=percent)
    assert lease_of(api, setting).disk_mb == expected


def test_volumes_are_in_the_leases_of_tasks_by_plain_paths(api: Api) -> None:
    api.deployed()
    assert lease_of(api).volumes == ()
    sent = [
        {"name": "scratch", "mountPath": "/scratch/./x/", "type": "ephemeral", "sizeMb": 10},
        {"name": "empty", "mountPath": "//empty", "type": "ephemeral", "sizeMb": 1, "readOnly": True},
    ]
    answer = api.put(PATH, {"spec": {"volumes": sent}})
    assert answer.json()["spec"]["volumes"] == sent
    assert lease_of(api).volumes == (
        Volume(path="/scratch/x", size_mb=10),
        Volume(path="/empty", size_mb=1, read_only=True),
    )
    api.put(PATH, {"spec": {"volumes": None}})
    assert lease_of(api).volumes == ()
