"""Where an answer leads to: what it names is a parameter of other operations (OpenAPI links)."""

from collections.abc import Mapping
from typing import Any, Final

_JOB: Final = "/v0/jobs/{name}"
_ONE: Final = f"{_JOB}/executions/{{execution}}"
_RUN: Final = "/{workspace_in_path}/jobs/{name}/executions"

_NAME: Final = "$response.body#/metadata/name"
_OF_JOB: Final[Mapping[str, str]] = {"name": _NAME}
_RUN_OF_JOB: Final = {**_OF_JOB, "workspace_in_path": "$response.body#/metadata/workspace"}
_LOGS_OF_JOB: Final = {"query.workloadIds": _NAME}
_OF_EXECUTION: Final[Mapping[str, str]] = {
    "name": "$response.body#/jobId",
    "execution": "$response.body#/executionId",
}
_ANYWHERE: Final = {"execution": "$response.body#/executionId"}

_FROM_JOB: Final[Mapping[tuple[str, str], Mapping[str, str]]] = {
    ("GET", _JOB): _OF_JOB,
    ("PUT", _JOB): _OF_JOB,
    ("DELETE", _JOB): _OF_JOB,
    ("GET", f"{_JOB}/revisions"): _OF_JOB,
    ("GET", f"{_JOB}/triggers"): _OF_JOB,
    ("GET", f"{_JOB}/executions"): _OF_JOB,
    ("POST", f"{_JOB}/executions"): _OF_JOB,
    ("POST", _RUN): _RUN_OF_JOB,
    ("GET", "/v0/observability/logs"): _LOGS_OF_JOB,
}
_FROM_EXECUTION: Final[Mapping[tuple[str, str], Mapping[str, str]]] = {
    ("GET", _ONE): _OF_EXECUTION,
    ("DELETE", _ONE): _OF_EXECUTION,
    ("POST", f"{_ONE}/rerun"): _OF_EXECUTION,
    ("GET", f"{_ONE}/tasks"): _OF_EXECUTION,
    ("GET", f"{_ONE}/tasks/{{index}}"): {**_OF_EXECUTION, "index": "0"},
    ("GET", f"{_ONE}/explain"): _OF_EXECUTION,
    ("GET", f"{_ONE}/results"): _OF_EXECUTION,
    ("GET", "/v0/executions/{execution}"): _ANYWHERE,
    ("GET", "/v0/executions/{execution}/explain"): _ANYWHERE,
}
LINKS: Final[Mapping[tuple[str, str], Mapping[tuple[str, str], Mapping[str, str]]]] = {
    ("POST", "/v0/jobs"): _FROM_JOB,
    ("PUT", _JOB): _FROM_JOB,
    ("POST", f"{_JOB}/executions"): _FROM_EXECUTION,
    ("POST", _RUN): _FROM_EXECUTION,
    ("POST", f"{_ONE}/rerun"): _FROM_EXECUTION,
    ("POST", f"{_JOB}/triggers/{{trigger}}/fire"): _FROM_EXECUTION,
}
"""By the operation that is answered with 200: where it leads, and which parameters come from where."""


def links(operation: tuple[str, str], ids: Mapping[tuple[str, str], str]) -> dict[str, Any]:
    """The links of an operation's success, by the ids of the operations that they lead to; ``ids`` names those."""
    return {
        ids[target]: {"operationId": ids[target], "parameters": dict(parameters)}
        for target, parameters in LINKS.get(operation, {}).items()
    }
