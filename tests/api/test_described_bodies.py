"""The description and the server agree on the edges of what a body may hold: what one allows, the other one takes."""

from collections.abc import Iterator
from typing import Any, Final

import jsonschema  # type: ignore[import-untyped]  # it ships no type information
import pytest

from tests.api.asking import Api
from tidemill.api.described import bodies
from tidemill.api.described.document import OPERATIONS, document
from tidemill.api.described.links import LINKS
from tidemill.model.execution import Reason
from tidemill.model.states import TASK_FINAL

JOB: Final = "/v0/jobs/sweep"
RUNS: Final = f"{JOB}/executions"
DOCUMENT: Final = document()
SCHEMAS: Final = DOCUMENT["components"]["schemas"]


def allowed(name: str, body: Any) -> bool:
    """Whether the schema of that name allows ``body``."""
    schema = {"$ref": f"#/components/schemas/{name}", "components": DOCUMENT["components"]}
    valid: bool = jsonschema.Draft202012Validator(schema).is_valid(body)
    return valid


def trigger(type_: str, **configuration: Any) -> dict[str, Any]:
    return {"triggers": [{"type": type_, "configuration": configuration}]}


def policy(**members: Any) -> dict[str, Any]:
    return {"runtime": {"retryPolicy": members}}


SPECS: Final[list[tuple[dict[str, Any], bool]]] = [
    *(({"runtime": {"memory": value}}, good) for value, good in ((0, True), (15, False), (16, True), (16.0, True))),
    *(({"runtime": {"timeout": value}}, good) for value, good in ((0, True), (86_400, True), (86_401, False))),
    *(({"runtime": {"maxRetries": value}}, good) for value, good in ((-1, False), (100, True), (101, False))),
    *(({"runtime": {"maxConcurrentTasks": value}}, good) for value, good in ((100_000, True), (100_001, False))),
    *(({"runtime": {"generation": value}}, good) for value, good in (("mk2", True), ("", True), ("mk4", False))),
    *(({"runtime": {"diskPercent": value}}, good) for value, good in ((0, True), (9, False), (10, True), (96, False))),
    *(
        ({"volumes": [{"name": "v", "mountPath": path, "type": "ephemeral", "sizeMb": 1}]}, good)
        for path, good in (("/a", True), ("/..a/b..", True), ("/a/..", False), ("/../a", False), ("a", False))
    ),
    *(({"runtime": {"network": value}}, good) for value, good in (("none", True), ("", True), ("off", False))),
    *(({"runtime": {"dockerConfig": value}}, good) for value, good in (("", True), (7, False))),
    *(({"runtime": {"envs": [{"name": name}]}}, good) for name, good in (("A", True), ("", False), ("A=B", False))),
    *(({"runtime": {"envs": [{"name": "A", "value": text}]}}, good) for text, good in (("b\n", True), ("\0", False))),
    *((policy(neverOn=[word]), good) for word, good in ((1, True), (0, False), ("Timeout", True), ("Lost", False))),
    *((policy(factor=value), good) for value, good in ((1, True), (100, True), (0.5, False), (101, False))),
    *((policy(maxSeconds=value), good) for value, good in ((86_400, True), (86_401, False), ("1", False))),
    *(({"revision": {"canaryPercent": value}}, good) for value, good in ((100, True), (101, False), ("1", False))),
    *(({"githubRunner": {"repositories": [text]}}, good) for text, good in (("a/b", True), ("ab", False))),
    *((trigger("cron", schedule=text), good) for text, good in (("0 3 * * *", True), ("0 3 * *", False), ("", False))),
    ({"triggers": [{"type": "cron"}]}, False),
    ({"triggers": [{"type": "http"}]}, True),
    *((trigger("http", timeout=value), good) for value, good in ((0, True), (86_400, True), (86_401, False))),
    *((trigger("http-async", timeout=value), good) for value, good in ((900, True), (901, False))),
    *((trigger("http", path=text), good) for text, good in (("/a", True), ("/executions", False), ("a", False))),
    *((trigger("http", path=text), good) for text, good in (("/executions/", False), ("/executionsx", True))),
    *((trigger("http", tasks=value), good) for value, good in (([], True), ([{}], True), ([1], False))),
]
EXECUTIONS: Final[list[tuple[dict[str, Any], bool]]] = [
    *(({"tasks": value}, good) for value, good in ((None, True), ([], False), ([{}], True), ([1], False))),
    *(({"executionId": text}, good) for text, good in (("a" * 7, False), ("a" * 8, True), ("a" * 65, False))),
    *(({"id": "a" * length}, good) for length, good in ((200, True), (201, False))),
    *(({"env": {name: ""}}, good) for name, good in (("A", True), ("", False), ("A=", False))),
    *(({"env": {f"A{index}": "" for index in range(total)}}, good) for total, good in ((1_000, True), (1_001, False))),
]
SELECTIONS: Final[list[tuple[Any, bool]]] = [
    *((word, good) for word, good in (("failed", True), ("not_succeeded", True), ("all", False), ("", True))),
    *(({"status": word}, good) for word, good in (("failed", True), (["failed"], True), ("pending", False))),
    *(({"exitCode": value}, good) for value, good in ((1, True), ([0, 1], True), (256, False), (-1, False))),
    *(({"reason": word}, good) for word, good in (("ExitCode", True), ("Sadness", False))),
    *(({"indices": value}, good) for value, good in (([0, "0-1"], True), (["a"], False), ([-1], False), ("0", True))),
    *((value, good) for value, good in (({}, False), ({"status": None}, False), ({"status": []}, False))),
    ({"status": "failed", "mood": 1}, False),
]


@pytest.mark.parametrize(("spec", "good"), SPECS)
def test_a_spec(kept: Api, spec: dict[str, Any], good: bool) -> None:
    body = {"spec": spec}
    assert allowed("JobBody", body) is good
    assert (kept.put(JOB, body).status_code == 200) is good


@pytest.mark.parametrize(
    ("name", "good"), [("a", True), ("a-1", True), ("a" * 49, True), ("a" * 50, False), ("-a", False), ("A", False)]
)
def test_the_name_of_a_new_job(api: Api, name: str, good: bool) -> None:
    body = {"metadata": {"name": name}}
    assert allowed("NewJobBody", body) is good
    assert (api.post("/v0/jobs?upload=true", body).status_code == 200) is good


@pytest.mark.parametrize("body", [{}, {"metadata": None}, {"metadata": {}}, {"metadata": {"name": None}}])
def test_a_new_job_without_a_name(api: Api, body: dict[str, Any]) -> None:
    assert not allowed("NewJobBody", body)
    assert allowed("JobBody", body)
    assert api.post("/v0/jobs?upload=true", body).status_code == 400


@pytest.mark.parametrize(("body", "good"), EXECUTIONS)
def test_an_execution(api: Api, body: dict[str, Any], good: bool) -> None:
    api.deployed()
    assert allowed("ExecutionBody", body) is good
    assert (api.post(RUNS, body).status_code == 200) is good


@pytest.mark.parametrize(("select", "good"), SELECTIONS)
def test_a_selection_of_a_rerun(kept: Api, select: Any, good: bool) -> None:
    assert allowed("RerunBody", {"select": select}) is good
    # of an execution that is not there: what is wrong in itself is told first
    answer = kept.post(f"{RUNS}/no-such-execution/rerun", {"select": select})
    assert answer.status_code == (404 if good else 400), answer.text


def test_the_words_of_a_selection_are_listed() -> None:
    members = SCHEMAS["SelectBody"]["properties"]
    assert set(members["status"]["anyOf"][0]["enum"]) == {state.value for state in TASK_FINAL}
    assert set(members["reason"]["anyOf"][0]["enum"]) == {reason.value for reason in Reason}
    words = {word for each in SCHEMAS["RerunBody"]["properties"]["select"]["anyOf"] for word in each.get("enum", ())}
    assert words == {"failed", "not_succeeded", "", None}


@pytest.mark.parametrize("name", ["RetryPolicy", "RetryPolicyBody"])
def test_a_retry_policy_has_its_members(name: str) -> None:
    assert set(SCHEMAS[name]["properties"]) == {"initialSeconds", "factor", "maxSeconds", "neverOn"}


def test_only_the_list_of_jobs_has_an_anchor() -> None:
    anchored = {path for path, item in DOCUMENT["paths"].items() for each in item.values() if "anchor" in names(each)}
    assert anchored == {"/v0/jobs"}


def names(operation: dict[str, Any]) -> set[str]:
    return {each["name"] for each in operation["parameters"] if "name" in each}


def test_limits_are_those_of_members_that_models_have() -> None:
    models = {name: set(schema.get("properties", ())) for name, schema in modelled()}
    described = {"ExecutionBody": {"tasks"}}  # never parsed: no field
    for name, limits in bodies._LIMITS.items():
        assert set(limits) <= models[name] | described.get(name, set()), name


def modelled() -> Iterator[tuple[str, dict[str, Any]]]:
    for model in bodies.MODELS:
        schema = model.model_json_schema(by_alias=True)
        yield model.__name__, schema
        yield from schema.get("$defs", {}).items()


def test_links_lead_to_operations_and_name_their_parameters() -> None:
    for source, targets in LINKS.items():
        assert source in OPERATIONS
        for (method, path), given in targets.items():
            found = names(DOCUMENT["paths"][path][method.lower()])
            assert {name.removeprefix("query.") for name in given} <= found
            assert {name for name in found if f"{{{name}}}" in path} <= set(given)


def test_what_links_take_from_answers_is_there(api: Api) -> None:
    api.deployed()
    made = api.post(RUNS, {}).json()
    job = api.get(JOB).json()
    for targets in LINKS.values():
        for given in targets.values():
            for expression in given.values():
                steps = expression.removeprefix("$response.body#/").split("/")
                if expression == "0":
                    continue
                value: Any = job if steps[0] == "metadata" else made
                for step in steps:
                    value = value[step]
                assert isinstance(value, str)
                assert value
