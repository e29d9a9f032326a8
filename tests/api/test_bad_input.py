"""Every constraint of every member of the requests that make things, and what its refusal says."""

import json
from typing import Any, Final

import pytest

from tests.api.asking import Api
from tests.api.test_access import assert_problem

SECRET: Final = "canary-5e2f91"
JOBS: Final = "/v0/jobs?upload=true"
RUNS: Final = "/v0/jobs/sweep/executions"

# the change of metadata or spec, the path, and words of what was sent and of what would be right
METADATA: Final[list[tuple[dict[str, Any], str, str, str]]] = [
    ({"name": "Sweep"}, "metadata.name", "Sweep", "1 to 49 of a-z, 0-9 and -"),
    ({"name": "a" * 50}, "metadata.name", "a" * 50, "1 to 49"),
    ({"name": "-a"}, "metadata.name", "-a", "begin and end with a letter or digit"),
    ({"name": 7}, "metadata.name", "7", "text"),
    ({"name": None}, "metadata.name", "missing", "a name"),
    ({"displayName": "x" * 64}, "metadata.displayName", '"xxxx', "up to 63 characters"),
    ({"displayName": 7}, "metadata.displayName", "7", "text of up to 63"),
    ({"externalId": "x" * 65}, "metadata.externalId", '"xxxx', "up to 64"),
    ({"externalId": "a b"}, "metadata.externalId", '"a b"', "A-Z, a-z, 0-9 and -"),
    ({"externalId": "a\n"}, "metadata.externalId", '"a\\n"', "A-Z, a-z, 0-9 and -"),
    ({"externalId": []}, "metadata.externalId", "a list", "text"),
    ({"labels": []}, "metadata.labels", "a list", "an object"),
    ({"labels": {"team": 1}}, "metadata.labels.team", "1", "text"),
    ({"labels": {"team": {"a": 1}}}, "metadata.labels.team", "an object", "text"),
]
SPEC: Final[list[tuple[dict[str, Any], str, str, str]]] = [
    ({"enabled": "yes"}, "spec.enabled", '"yes"', "true or false"),
    ({"region": 7}, "spec.region", "7", "text"),
    ({"runtime": []}, "spec.runtime", "a list", "an object"),
    ({"policies": "eu"}, "spec.policies", '"eu"', "a list"),
    ({"policies": ["eu", 7]}, "spec.policies[1]", "7", "text"),
    ({"githubRunner": []}, "spec.githubRunner", "a list", "an object"),
    ({"githubRunner": {"repositories": "a/b"}}, "spec.githubRunner.repositories", '"a/b"', "a list"),
    ({"githubRunner": {"repositories": ["a/b", "ab"]}}, "spec.githubRunner.repositories[1]", '"ab"', "owner/repo"),
    ({"githubRunner": {"repositories": ["a/b/c"]}}, "spec.githubRunner.repositories[0]", '"a/b/c"', "owner/repo"),
    ({"githubRunner": {"repositories": [None]}}, "spec.githubRunner.repositories[0]", "null", "text"),
    ({"volumes": {}}, "spec.volumes", "an object", "a list"),
    ({"volumes": [7]}, "spec.volumes[0]", "7", "an object"),
]
RUNTIME: Final[list[tuple[dict[str, Any], str, str, str]]] = [
    ({"image": 7}, "image", "7", "text"),
    ({"memory": "much"}, "memory", '"much"', "a whole number"),
    ({"memory": True}, "memory", "true", "a whole number"),
    ({"memory": 15}, "memory", "15", "16 "),
    ({"memory": -1}, "memory", "-1", "16 "),
    ({"memory": -(2**63)}, "memory", str(-(2**63)), "16 "),
    ({"timeout": 1.5}, "timeout", "1.5", "a whole number"),
    ({"timeout": "15m"}, "timeout", '"15m"', "a whole number"),
    ({"timeout": 86_401}, "timeout", "86401", "1 to 86400"),
    ({"timeout": -1}, "timeout", "-1", "1 to 86400"),
    ({"timeout": 10**400}, "timeout", "1" + "0" * 63 + "...", "1 to 86400"),
    ({"maxRetries": "1"}, "maxRetries", '"1"', "a whole number"),
    ({"maxRetries": 101}, "maxRetries", "101", "0 to 100"),
    ({"maxRetries": -1}, "maxRetries", "-1", "0 to 100"),
    ({"maxConcurrentTasks": []}, "maxConcurrentTasks", "a list", "a whole number"),
    ({"maxConcurrentTasks": 100_001}, "maxConcurrentTasks", "100001", "1 to 100000"),
    ({"maxConcurrentTasks": -1}, "maxConcurrentTasks", "-1", "1 to 100000"),
    ({"generation": "mk4"}, "generation", "mk4", "mk2, mk3"),
    ({"generation": 3}, "generation", "3", "text"),
    ({"network": "off"}, "network", '"off"', '"on", or "none"'),
    ({"network": "NONE"}, "network", '"NONE"', '"on", or "none"'),
    ({"network": False}, "network", "false", '"on", or "none"'),
    ({"diskPercent": 9}, "diskPercent", "9", "10 to 95"),
    ({"diskPercent": 96}, "diskPercent", "96", "10 to 95"),
    ({"diskPercent": "50"}, "diskPercent", '"50"', "a whole number"),
    ({"dockerConfig": "{}"}, "dockerConfig", "", "spec.runtime.image names none"),
    ({"dockerConfig": 7}, "dockerConfig", "7", "text"),
    ({"ports": 80}, "ports", "80", "a list"),
    ({"ports": [80]}, "ports[0]", "80", "an object"),
    ({"ports": [{"name": "web"}]}, "ports[0].target", "missing", "1 to 65535"),
    ({"ports": [{"target": 0}]}, "ports[0].target", "0", "1 to 65535"),
    ({"ports": [{"target": 80}, {"target": 65_536}]}, "ports[1].target", "65536", "1 to 65535"),
    ({"ports": [{"target": "80"}]}, "ports[0].target", '"80"', "a whole number from 1 to 65535"),
    ({"ports": [{"target": 80, "name": 7}]}, "ports[0].name", "7", "text"),
    ({"ports": [{"target": 80, "protocol": "SCTP"}]}, "ports[0].protocol", '"SCTP"', "HTTP, TCP, UDP, TLS"),
    ({"ports": [{"target": 80, "protocol": 6}]}, "ports[0].protocol", "6", "HTTP, TCP, UDP, TLS"),
    ({"retryPolicy": 7}, "retryPolicy", "7", "an object"),
    ({"retryPolicy": {"factor": "2"}}, "retryPolicy.factor", '"2"', "a number"),
    ({"retryPolicy": {"neverOn": 2}}, "retryPolicy.neverOn", "2", "a list"),
    ({"retryPolicy": {"neverOn": [1, 256]}}, "retryPolicy.neverOn[1]", "256", "1 to 255"),
    ({"retryPolicy": {"neverOn": [True]}}, "retryPolicy.neverOn[0]", "true", "1 to 255"),
    ({"retryPolicy": {"neverOn": ["Sad"]}}, "retryPolicy.neverOn[0]", '"Sad"', "ExitCode"),
    ({"retryPolicy": {"neverOn": [{}]}}, "retryPolicy.neverOn[0]", "an object", "ExitCode"),
]
VOLUME: Final = {"name": "scratch", "mountPath": "/scratch", "type": "ephemeral", "sizeMb": 10}
VOLUMES: Final[list[tuple[dict[str, Any], str, str, str]]] = [
    ({"name": ""}, "name", '""', "not empty"),
    ({"name": None}, "name", "null", "text"),
    ({"mountPath": "scratch"}, "mountPath", '"scratch"', "begins with /"),
    ({"mountPath": "/a\0b"}, "mountPath", '"/a', "no NUL"),
    ({"mountPath": "/a/../b"}, "mountPath", '"/a/../b"', "no .."),
    ({"mountPath": "//scratch/."}, "mountPath", '"//scratch/."', "each path may be there once"),
    ({"mountPath": 7}, "mountPath", "7", "an absolute path"),
    ({"type": "persistent"}, "type", '"persistent"', '"ephemeral"'),
    ({"sizeMb": 0}, "sizeMb", "0", "from 1 on"),
    ({"sizeMb": "10"}, "sizeMb", '"10"', "a whole number"),
    ({"readOnly": "no"}, "readOnly", '"no"', "true or false"),
]
ENVS: Final[list[tuple[object, str, str]]] = [
    (SECRET, "spec.runtime.envs", "a list"),
    ({"A": SECRET}, "spec.runtime.envs", "a list"),
    ([SECRET], "spec.runtime.envs[0]", "an object"),
    ([{"name": "A", "value": SECRET}, {"value": SECRET}], "spec.runtime.envs[1].name", "missing"),
    ([{"name": 7, "value": SECRET}], "spec.runtime.envs[0].name", "text"),
    ([{"name": "", "value": SECRET}], "spec.runtime.envs[0].name", "not be empty"),
    ([{"name": f"A={SECRET}", "value": ""}], "spec.runtime.envs[0].name", 'is "A=..."'),
    ([{"name": "A\0", "value": SECRET}], "spec.runtime.envs[0].name", "NUL"),
    ([{"name": "A", "value": [SECRET]}], "spec.runtime.envs[0].value", "text"),
    ([{"name": "A", "value": {SECRET: 1}}], "spec.runtime.envs[0].value", "text"),
    ([{"name": "A", "value": 7, "secret": SECRET}], "spec.runtime.envs[0].secret", "true or false"),
    ([{"name": "A", "value": f"{SECRET}\0"}], "spec.runtime.envs[0].value", "NUL"),
    ([{"name": "B"}, {"name": "A", "value": SECRET * 20_000}], "spec.runtime.envs[1].value", "up to 128000"),
    ([{"name": f"A{n}", "value": SECRET * 9_000} for n in range(20)], "spec.runtime.envs", "in all"),
    ([{"name": "A", "value": SECRET}, {"name": "A", "value": SECRET}], "spec.runtime.envs", '"A" twice'),
    ([{"name": "A", "value": "****"}], "spec.runtime.envs[0].value", "no value to keep"),
]
# what a new execution and a rerun have in common
STARTS: Final[list[tuple[object, str, str, str]]] = [
    ({"memory": "512"}, "memory", '"512"', "a whole number"),
    ({"memory": -1}, "memory", "-1", "from 0 on"),
    ({"memory": 8}, "memory", "8", "16 to"),
    ({"memory": 2**70}, "memory", str(2**70), "16 to"),
    ({"memory": 10**400}, "memory", "1000", "16 to"),
    ({"executionId": "short"}, "executionId", '"short"', "8 to 64"),
    ({"executionId": "x" * 65}, "executionId", '"xxx', "8 to 64"),
    ({"executionId": "has a space"}, "executionId", '"has a space"', "A-Z, a-z, 0-9"),
    ({"executionId": 12345678}, "executionId", "12345678", "text"),
    ({"id": "x" * 201}, "id", '"xxx', "up to 200"),
    ({"id": 7}, "id", "7", "text"),
    ({"allowQueue": "no"}, "allowQueue", '"no"', "true or false"),
    ({"env": SECRET}, "env", "", "an object"),
    ({"env": [SECRET]}, "env", "", "an object"),
    ({"env": {"A": [SECRET]}}, "env.A", "", "text"),
    ({"env": {"A": None}}, "env.A", "", "text"),
    ({"env": {f"A={SECRET}": ""}}, "env", '"A=..."', "must not be empty or hold ="),
    ({"env": {"": SECRET}}, "env", '""', "must not be empty"),
    ({"env": {"A": f"{SECRET}\0"}}, "env.A", "", "NUL"),
    ({"env": {"A": SECRET * 20_000}}, "env.A", "", "up to 128000"),
    ({"env": {f"A{n}": SECRET for n in range(1_001)}}, "env", "1001", "up to 1000"),
]
TASKS: Final[list[tuple[object, str, str, str]]] = [
    ({"tasks": "all"}, "tasks", "", "a list of objects"),
    ({"tasks": {"a": 1}}, "tasks", "", "a list of objects"),
    ({"tasks": []}, "tasks", "0", "1 to 1000000"),
    ({"tasks": [{}, SECRET]}, "tasks[1]", "", "an object of arguments"),
]
SELECTS: Final[list[tuple[object, str, str, str]]] = [
    ({"select": "all"}, "select", '"all"', "'failed', 'not_succeeded'"),
    ({"select": 7}, "select", "7", "an object"),
    ({"select": {"status": "running"}}, "select.status", "running", "failed"),
    ({"select": {"status": [7]}}, "select.status[0]", "7", "text"),
    ({"select": {"exitCode": "3"}}, "select.exitCode[0]", '"3"', "a whole number"),
    ({"select": {"exitCode": 2**70}}, "select.exitCode[0]", str(2**70), "0 to 255"),
    ({"select": {"reason": "Sad"}}, "select.reason", "Sad", "ExitCode"),
    ({"select": {"indices": ["7-3"]}}, "select.indices", "7-3", "ranges"),
    ({"select": {"indices": 10**400}}, "select.indices", "1000", "indices"),
    ({"timeout": 86_401}, "timeout", "86401", "1 to 86400"),
    ({"timeout": -1}, "timeout", "-1", "from 0 on"),
    ({"timeout": "90s"}, "timeout", '"90s"', "a whole number"),
    ({"revision": 7}, "revision", "7", "text"),
]


@pytest.fixture(scope="module")
def origin(kept: Api) -> str:
    """An execution that has ended, for reruns."""
    kept.node()
    found: str = kept.post(RUNS, {}).json()["executionId"]
    kept.delete(f"{RUNS}/{found}")
    return found


def job(metadata: dict[str, Any], spec: dict[str, Any]) -> dict[str, Any]:
    return {"metadata": {"name": "sweep", **metadata}, "spec": spec}


def refused(kept: Api, body: dict[str, Any]) -> str:
    """What both a new job and a change of one are told; neither leaves anything."""
    before = kept.get("/v0/jobs").text, kept.revisions("sweep")
    changed = assert_problem(kept.put("/v0/jobs/sweep", body), 400, "INVALID")
    another = {**body, "metadata": {**body["metadata"], "name": "another"}} if "name" in body["metadata"] else body
    assert assert_problem(kept.post(JOBS, another), 400, "INVALID") == changed
    assert (kept.get("/v0/jobs").text, kept.revisions("sweep")) == before
    assert SECRET not in changed
    return changed


@pytest.mark.parametrize(("change", "path", "value", "right"), METADATA)
def test_metadata(kept: Api, change: dict[str, Any], path: str, value: str, right: str) -> None:
    before = kept.get("/v0/jobs").text
    message = assert_problem(kept.post(JOBS, job(change, {})), 400, "INVALID")
    assert message.startswith(f"{path} ")
    assert value in message
    assert right in message
    assert kept.get("/v0/jobs").text == before


@pytest.mark.parametrize(("change", "path", "value", "right"), SPEC)
def test_spec(kept: Api, change: dict[str, Any], path: str, value: str, right: str) -> None:
    message = refused(kept, job({}, change))
    assert message.startswith(f"{path} is {value}; it must be ")
    assert right in message


@pytest.mark.parametrize(("change", "path", "value", "right"), RUNTIME)
def test_runtime(kept: Api, change: dict[str, Any], path: str, value: str, right: str) -> None:
    message = refused(kept, job({}, {"runtime": change}))
    assert message.startswith(f"spec.runtime.{path} is ")
    assert value in message
    assert right in message


@pytest.mark.parametrize(("change", "member", "value", "right"), VOLUMES)
def test_volumes(kept: Api, change: dict[str, Any], member: str, value: str, right: str) -> None:
    message = refused(kept, job({}, {"volumes": [VOLUME, {**VOLUME, **change}]}))
    assert message.startswith(f"spec.volumes[1].{member} is {value}")
    assert right in message


@pytest.mark.parametrize("member", VOLUME)
def test_a_volume_without_a_member_that_it_needs(kept: Api, member: str) -> None:
    volume = {name: value for name, value in VOLUME.items() if name != member}
    assert f"spec.volumes[0].{member} is missing; it must be " in refused(kept, job({}, {"volumes": [volume]}))


@pytest.mark.parametrize(("envs", "path", "words"), ENVS)
def test_variables_are_named_and_their_values_never_repeated(kept: Api, envs: object, path: str, words: str) -> None:
    message = refused(kept, job({}, {"runtime": {"envs": envs}}))
    assert path in message
    assert words in message


@pytest.mark.parametrize(("body", "path", "value", "right"), [*STARTS, *TASKS])
def test_a_new_execution(kept: Api, body: object, path: str, value: str, right: str) -> None:
    before = kept.get(RUNS).text
    message = assert_problem(kept.post(RUNS, body), 400, "INVALID")
    assert path in message
    assert value in message
    assert right in message
    assert SECRET not in message
    assert kept.get(RUNS).text == before


@pytest.mark.parametrize(("body", "path", "value", "right"), [*STARTS, *SELECTS])
def test_a_rerun(kept: Api, origin: str, body: object, path: str, value: str, right: str) -> None:
    before = kept.get(RUNS).text
    named = body if isinstance(body, dict) and "select" in body else {"select": "not_succeeded", **_object(body)}
    message = assert_problem(kept.post(f"{RUNS}/{origin}/rerun", named), 400, "INVALID")
    assert path in message
    assert value in message
    assert right in message
    assert SECRET not in message
    assert kept.get(RUNS).text == before


@pytest.mark.parametrize("protocol", ["HTTP", "tcp", "Udp", "tls", None, ""])
def test_protocols_are_taken_in_any_case(kept: Api, protocol: str | None) -> None:
    ports = [{"target": 1}, {"target": 65_535, "protocol": protocol}]
    answer = kept.put("/v0/jobs/sweep?upload=true", job({}, {"runtime": {"ports": ports}}))
    assert answer.status_code == 200, answer.text


def test_many_faults_are_counted(kept: Api) -> None:
    ports = [{"target": 0}] * 9
    message = refused(kept, job({}, {"runtime": {"ports": ports}}))
    assert message.count("spec.runtime.ports[") == 5
    assert message.endswith("; and 4 more")


def test_a_word_of_a_few_is_told_with_those_that_there_are(kept: Api) -> None:
    message = refused(kept, job({}, {"triggers": [{"type": "schedule"}]}))
    assert message == "spec.triggers[0].type is \"schedule\"; it must be 'http', 'http-async' or 'cron'"


def test_a_long_value_is_cut(kept: Api) -> None:
    message = refused(kept, job({}, {"runtime": {"memory": "x" * 100_000}}))
    assert len(message) < 200
    assert "x" * 60 + "xxx..." in message


def _object(value: object) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(json.dumps(value))
    return found
