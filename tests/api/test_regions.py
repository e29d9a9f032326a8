"""spec.region: what is accepted, where it leads, and what is said when it leads nowhere."""

from dataclasses import replace

from tests.api.asking import NODE, Api
from tests.api.test_access import assert_problem
from tidemill.model.ids import NodeId
from tidemill.model.lease import NodeInfo
from tidemill.store.schema import execution

PATH = "/v0/jobs/sweep/executions"
HERE = NodeInfo(id=NODE, region="eu", memory_mb=4_000, slots=8, incarnation="i")


def placed(api: Api) -> list[str]:
    """The regions of all executions, oldest first."""
    rows = api.parts.database.read(
        lambda connection: connection.execute(execution.select().order_by(execution.c.created_at)).all()
    )
    return [row.region for row in rows]


def started(api: Api, **body: object) -> str:
    answer = api.post(PATH, body)
    assert answer.status_code == 200, answer.text
    found: str = answer.json()["executionId"]
    return found


def test_only_configured_regions_are_accepted_and_the_default_is_the_servers(api: Api) -> None:
    api.regions("eu", "us")
    assert api.deployed()["spec"]["region"] == "eu"
    assert api.put("/v0/jobs/sweep", {"spec": {"region": "us"}}).json()["spec"]["region"] == "us"
    for wrong in ("auto", "local", "us-was-1", "mars"):
        message = assert_problem(api.put("/v0/jobs/sweep", {"spec": {"region": wrong}}), 400, "INVALID")
        assert message == f'spec.region is "{wrong}"; the regions are eu, us'
    assert api.get("/v0/jobs/sweep").json()["spec"]["region"] == "us"
    for back in ("", None):
        assert api.put("/v0/jobs/sweep", {"spec": {"region": back}}).json()["spec"]["region"] == "eu"


def test_an_execution_keeps_the_region_it_was_started_in(api: Api) -> None:
    api.regions("eu", "us")
    api.deployed()
    started(api)
    api.later(1)
    api.put("/v0/jobs/sweep", {"spec": {"region": "us"}})
    started(api)
    assert placed(api) == ["eu", "us"]


def test_without_configured_regions_every_node_will_do(api: Api) -> None:
    api.deployed()
    api.put("/v0/jobs/sweep", {"spec": {"region": "us-was-1"}})
    started(api)
    assert placed(api) == [""]


def test_a_region_that_is_configured_no_more_strands_no_job(api: Api) -> None:
    api.regions("eu", "us")
    api.deployed()
    api.put("/v0/jobs/sweep", {"spec": {"region": "us"}})
    api.regions("eu", "asia")
    started(api)
    assert placed(api) == ["eu"]
    # what is not about its region can still be changed
    assert api.put("/v0/jobs/sweep", {"spec": {"runtime": {"timeout": 5}}}).status_code == 200


def test_what_waits_for_a_region_without_a_node_says_so(api: Api) -> None:
    api.regions("eu", "us")
    api.deployed()
    api.put("/v0/jobs/sweep", {"spec": {"region": "us"}})
    name = started(api)
    api.looks(HERE)
    found = api.get(f"{PATH}/{name}/explain").json()
    assert found["reason"] == "no_node_in_region"
    assert "there is no node in region 'us'" in found["summary"]
    api.looks(HERE, replace(HERE, id=NodeId("n2"), region="us", slots=0, memory_mb=0))
    assert api.get(f"{PATH}/{name}/explain").json()["reason"] == "node_drains"


def test_memory_is_limited_by_the_biggest_node_of_the_region(api: Api) -> None:
    api.regions("eu", "us")
    api.deployed(memory=512)
    api.node(4_000, region="eu")
    api.node(1_000, id=NodeId("n2"), region="us")
    change = {"spec": {"region": "us", "runtime": {"memory": 2_000}}}
    message = assert_problem(api.put("/v0/jobs/sweep", change), 400, "INVALID")
    assert "spec.runtime.memory is 2000; it must be 16 to 1000" in message
    change["spec"]["region"] = "eu"
    assert api.put("/v0/jobs/sweep", change).status_code == 200
    api.put("/v0/jobs/sweep", {"spec": {"region": "us"}})
    message = assert_problem(api.post(PATH, {"allowQueue": False}), 400, "INVALID")
    assert "a task needs 2000 MB, but the biggest node has 1000" in message
