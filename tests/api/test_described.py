"""The served description is of exactly what is served, and real answers are as it says."""

from typing import Any

import jsonschema  # type: ignore[import-untyped]  # it ships no type information
import pytest

from tests.api.asking import Api
from tests.api.test_access import NONE, routes
from tidemill.api import app as app_module
from tidemill.model.lease import OutcomeKind

JOB = "/v0/jobs/{name}"
ONE = f"{JOB}/executions/{{execution}}"


@pytest.fixture
def document(api: Api) -> dict[str, Any]:
    answer = api.get("/v0/openapi.json", headers=NONE)
    assert answer.status_code == 200
    found: dict[str, Any] = answer.json()
    return found


def test_every_route_is_described_and_nothing_else(api: Api, document: dict[str, Any]) -> None:
    served = {
        (method, each.path_format) for each in routes(app_module.build(api.context)) for method in each.methods or ()
    }
    described = {(method.upper(), path) for path, methods in document["paths"].items() for method in methods}
    assert described == served


def test_those_without_a_credential_are_those_that_the_app_names(document: dict[str, Any]) -> None:
    public = {
        path
        for path, methods in document["paths"].items()
        if any(each.get("security") == [] for each in methods.values())
    }
    assert public == set(app_module.PUBLIC)


def test_every_reference_leads_somewhere_and_every_schema_is_one(document: dict[str, Any]) -> None:
    schemas = document["components"]["schemas"]
    for schema in schemas.values():
        jsonschema.Draft202012Validator.check_schema(schema)
    known = {f"#/components/{kind}/{name}" for kind, named in document["components"].items() for name in named}
    assert references(document) <= known
    assert {f"#/components/schemas/{name}" for name in schemas} <= references(document)


def references(value: Any) -> set[str]:
    """Every ``$ref`` in it."""
    if isinstance(value, dict):
        own = {value["$ref"]} if isinstance(value.get("$ref"), str) else set()
        return own.union(*(references(each) for each in value.values()))
    return set().union(*(references(each) for each in value)) if isinstance(value, list) else set()


def faults(document: dict[str, Any], path: str, status: int, answer: Any, method: str = "get") -> list[str]:
    """What of an answer is not as described."""
    content = document["paths"][path][method]["responses"][str(status)]["content"]
    schema = {**content["application/json"]["schema"], "components": document["components"]}
    return [f"{each.json_path}: {each.message}" for each in jsonschema.Draft202012Validator(schema).iter_errors(answer)]


def test_answers_about_a_life_of_a_job_are_as_described(api: Api, document: dict[str, Any]) -> None:
    job = api.deployed(memory=64, envs=[{"name": "A", "value": "b"}], retryPolicy={"factor": 3})
    made = api.post("/v0/jobs/sweep/executions", {"tasks": [{"n": 0}, {"n": 1}], "env": {"K": "v"}}).json()
    execution = made["executionId"]
    api.run_task(execution, 1)
    api.end_task(execution, 0)
    api.end_task(execution, 1, OutcomeKind.EXIT_CODE, exit_code=3)
    again = api.post(f"/v0/jobs/sweep/executions/{execution}/rerun", {})
    assert again.status_code == 200
    assert faults(document, JOB, 200, job) == []
    assert faults(document, f"{JOB}/executions", 200, made, "post") == []
    assert faults(document, f"{ONE}/rerun", 200, again.json(), "post") == []
    paths = ["/healthz", "/readyz", "/v0/jobs", JOB, f"{JOB}/revisions", f"{JOB}/executions", ONE, f"{ONE}/tasks"]
    paths += [
        f"{ONE}/tasks/{{index}}",
        f"{ONE}/explain",
        "/v0/executions/{execution}",
        "/v0/executions/{execution}/explain",
    ]
    paths += ["/v0/workspaces", "/v0/agents", "/v0/functions", "/v0/models", "/v0/templates", "/v0/configuration"]
    for version in ("2026-04-16", "2026-04-28"):
        for path in paths:
            asked = path.replace("{name}", "sweep").replace("{execution}", execution).replace("{index}", "1")
            answer = api.get(asked, headers={"Blaxel-Version": version})
            assert answer.status_code == 200, asked
            assert faults(document, path, 200, answer.json()) == [], asked
    logs = api.get("/v0/observability/logs?workloadIds=sweep")
    assert faults(document, "/v0/observability/logs", 200, logs.json()) == []
    cancelled = api.delete(f"/v0/jobs/sweep/executions/{again.json()['executionId']}?force=true")
    assert faults(document, ONE, 200, cancelled.json(), "delete") == []
    deleted = api.delete("/v0/jobs/sweep")
    assert deleted.status_code == 200
    assert faults(document, JOB, 200, deleted.json(), "delete") == []


@pytest.mark.parametrize(
    ("method", "path", "asked", "status"),
    [
        ("get", JOB, "/v0/jobs/none", 404),
        ("get", "/v0/jobs", "/v0/jobs?limit=x", 400),
        ("post", "/v0/jobs", "/v0/jobs", 400),
        ("put", JOB, "/v0/jobs/none", 404),
        ("post", f"{JOB}/executions", "/v0/jobs/none/executions", 404),
        ("put", "/uploads/{capability}", "/uploads/none", 404),
    ],
)
def test_refusals_have_a_described_status_and_shape(
    api: Api, document: dict[str, Any], method: str, path: str, asked: str, status: int
) -> None:
    content = None if method == "get" else b"{}"
    answer = api.request(method.upper(), asked, content=content)
    assert answer.status_code == status, answer.text
    assert faults(document, path, status, answer.json(), method) == []


def test_a_wrong_answer_is_seen_as_wrong(document: dict[str, Any]) -> None:
    assert faults(document, JOB, 200, {"metadata": {}}) != []
    assert faults(document, "/v0/jobs", 200, [{"status": "NONE"}]) != []
