"""A real server answers as its description says, whatever it is sent; `make fuzz` tries the same for longer."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

from tests.e2e.conftest import running
from tests.e2e.described.run import DRAWN, ELSEWHERE, EVERY_LIMIT, Budget, fuzz, prepared
from tests.e2e.drive import Server
from tidemill.api.described.document import OPERATIONS, document

SEED: Final = 1
FUZZED: Final = [(method, path) for method, path in OPERATIONS if not re.match(ELSEWHERE, path)]
CHECKS: Final = {
    "not_a_server_error",
    "status_code_conformance",
    "content_type_conformance",
    "response_headers_conformance",
    "response_schema_conformance",
    "negative_data_rejection",
    "positive_data_acceptance",
    "missing_required_header",
    "unsupported_method",
    "allow_header_conformance",
    "ensure_resource_availability",
    "ignored_auth",
    "object_level_authorization",
}


@pytest.fixture(scope="module")
def ready(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("described")
    for server in running(Server(folder / "data", {"TIDEMILL_KILL_GRACE_S": "1"})):
        prepared(server, folder)
        yield server


def test_requests_drawn_from_the_description_find_no_wrong_answer(ready: Server, tmp_path: Path) -> None:
    report = fuzz(ready, tmp_path, Budget(seed=SEED, examples=5, phases=DRAWN))
    assert report.failures == (), f"{report}\n{report.said}"
    # Schemathesis leaves the address out that it reads the description from
    assert report.operations == len(FUZZED) - 1
    assert {name for name, _ in report.checks} == CHECKS
    assert {status for status in report.answers if not 200 <= status < 500} == set()
    # it got past the door: things were made, asked for, refused, not found and in the way
    assert {200, 400, 401, 404, 409} <= set(report.answers)


def test_every_limit_of_a_query_holds_and_no_other_method_is_served(ready: Server, tmp_path: Path) -> None:
    # limits of bodies are some thousand cases: `make fuzz` has the time
    report = fuzz(ready, tmp_path, Budget(seed=SEED, examples=1, phases=EVERY_LIMIT, methods=("GET", "DELETE")))
    assert report.failures == (), f"{report}\n{report.said}"
    assert report.operations == sum(method in {"GET", "DELETE"} for method, _ in FUZZED)
    assert {200, 400, 401, 404, 405} <= set(report.answers)


def test_a_description_that_promises_something_else_is_found_out(ready: Server, tmp_path: Path) -> None:
    wrong = document()
    wrong["paths"] = {"/healthz": wrong["paths"]["/healthz"]}
    wrong["components"]["schemas"]["Health"]["properties"]["status"] = {"const": "asleep"}
    described = tmp_path / "wrong.json"
    described.write_text(json.dumps(wrong))
    report = fuzz(ready, tmp_path, Budget(seed=SEED, examples=1, phases=DRAWN[:1]), description=described)
    assert report.failures == ("Response violates schema: GET /healthz",), report.said
