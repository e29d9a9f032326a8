"""Output of tasks and builds (docs/wire.md, logs)."""

import json
import zlib
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import Connection

from tests.api.asking import NODE, Api
from tests.api.test_access import assert_problem
from tidemill.model.ids import JobKey
from tidemill.model.lease import LogBlock, Position
from tidemill.store import jobs, log_blocks, nodes
from tidemill.store.log_blocks import Place

EXECUTIONS = "/v0/jobs/sweep/executions"
Line = tuple[float, int, str, str]
"""Seconds after noon, task's index, severity, text."""


class Output:
    """Writes blocks as the scheduler's collector does."""

    def __init__(self, api: Api) -> None:
        self.api = api
        self.noon = api.now[0]
        self.blocks = 0
        api.node()

    def job(self, name: str = "sweep") -> JobKey:
        found = self.api.parts.database.read(lambda connection: jobs.find_count(connection, "main", name))
        assert found is not None
        return JobKey(found.key)

    def write(self, owner: int, lines: Sequence[Line], kind: str = "t", *, cut: bool = False) -> None:
        self.blocks += 1
        base_ns = round(self.noon.timestamp()) * 1_000_000_000
        rows = [[index, 1, "stdout", base_ns + round(at * 1e9), severity, text] for at, index, severity, text in lines]
        data = zlib.compress("\n".join(json.dumps(row) for row in rows).encode())
        severities = [severity for _, _, severity, _ in lines]
        block = LogBlock(
            number=self.blocks,
            block_id=f"block-{self.blocks}",
            log_key=self.job(),
            kind=kind,
            owner=owner,
            first_index=min(index for _, index, _, _ in lines),
            last_index=max(index for _, index, _, _ in lines),
            first_at=self.noon.timestamp() + min(at for at, *_ in lines),
            last_at=self.noon.timestamp() + max(at for at, *_ in lines),
            lines={severity: severities.count(severity) for severity in severities},
            data=data,
            cut=cut,
        )
        offset = self.api.parts.logfiles.append("x/1.log", data)
        self.api.parts.logfiles.sync()
        place = Place(file="x/1.log", offset=offset, length=len(data))
        self.api.parts.database.write(lambda connection: self._keep(connection, block, place))

    def _keep(self, connection: Connection, block: LogBlock, place: Place) -> None:
        after = nodes.read_up_to(connection, NODE).logs
        position = Position(incarnation="i", number=self.blocks)
        assert log_blocks.append(connection, NODE, [(block, place)], after=after, position=position)


@pytest.fixture
def output(api: Api) -> Output:
    api.deployed()
    output = Output(api)
    api.later(60)
    return output


def read(api: Api, query: str = "") -> dict[str, Any]:
    answer = api.get(f"/v0/observability/logs?resourceType=jobs&workloadIds=sweep&type=all&traceId=&{query}")
    assert answer.status_code == 200, answer.text
    assert answer.json().keys() == {"sweep"}
    found: dict[str, Any] = answer.json()["sweep"]
    return found


def texts(api: Api, query: str = "") -> list[str]:
    return [line["message"] for line in read(api, query)["logs"]]


def execution(api: Api) -> tuple[str, int]:
    made = api.post(EXECUTIONS, b"").json()["executionId"]
    return made, api.key(made)


def window(noon: datetime, start: float, end: float) -> str:
    form = "%Y-%m-%dT%H:%M:%S"
    first, last = noon + timedelta(seconds=start), noon + timedelta(seconds=end)
    return f"start={first.strftime(form)}&end={last.strftime(form)}"


def test_the_jobs_key_is_there_without_a_line(output: Output) -> None:
    assert read(output.api) == {"logs": [], "totalCount": 0, "complete": True}


def test_a_job_that_is_not_there_is_404(api: Api) -> None:
    assert_problem(api.get("/v0/observability/logs?workloadIds=nobody"), 404, "NOT_FOUND")


def test_lines_come_newest_first_out_of_blocks_that_overlap(output: Output) -> None:
    output.write(1, [(1, 0, "INFO", "a"), (4, 0, "INFO", "d"), (7, 0, "INFO", "g")])
    output.write(2, [(2, 0, "INFO", "b"), (5, 0, "INFO", "e")])
    output.write(3, [(3, 0, "INFO", "c"), (6, 0, "INFO", "f")], kind="b")
    page = read(output.api)
    assert [line["message"] for line in page["logs"]] == list("gfedcba")
    assert page["totalCount"] == 7


def test_lines_of_one_instant_keep_their_order(output: Output) -> None:
    output.write(1, [(1, 0, "INFO", text) for text in "abc"])
    assert texts(output.api) == ["c", "b", "a"]


def test_a_line_has_the_shape_that_the_official_clients_read(output: Output) -> None:
    output.write(1, [(1.5, 0, "ERROR", 'boom\u2028\x1b[31m "quoted"')])
    (line,) = read(output.api)["logs"]
    assert line == {
        "timestamp": "2026-11-23T12:00:01.500000000Z",
        "message": 'boom\u2028\x1b[31m "quoted"',
        "severity": 17,
        "trace_id": "",
        "task": "task-0",
        "attempt": 1,
        "stream": "stdout",
    }


def test_severities_are_numbers_in_answers_and_words_in_filters(output: Output) -> None:
    words = ["UNKNOWN", "TRACE", "DEBUG", "INFO", "WARNING", "ERROR", "FATAL"]
    output.write(1, [(number, 0, word, word) for number, word in enumerate(words)])
    numbers = {line["message"]: line["severity"] for line in read(output.api)["logs"]}
    assert numbers == dict(zip(words, [0, 1, 5, 9, 13, 17, 21], strict=True))
    page = read(output.api, "severity=ERROR,fatal")
    assert ([line["message"] for line in page["logs"]], page["totalCount"]) == (["FATAL", "ERROR"], 2)
    # what the official build watcher sends
    assert len(texts(output.api, "severity=all,UNKNOWN,TRACE,DEBUG,INFO,WARNING,ERROR,FATAL")) == 7
    assert_problem(output.api.get("/v0/observability/logs?workloadIds=sweep&severity=LOUD"), 400, "INVALID")


def test_an_execution_is_named_by_a_prefix_and_a_task_in_three_ways(output: Output) -> None:
    first, key = execution(output.api)
    _, other = execution(output.api)
    output.write(key, [(1, 0, "INFO", "zero"), (2, 7, "INFO", "seven")])
    output.write(other, [(3, 0, "INFO", "other")])
    assert texts(output.api, f"executionId={first[:8]}&taskId=") == ["seven", "zero"]
    for name in ("task-7", "task7", "7"):
        assert texts(output.api, f"executionId={first}&taskId={name}") == ["seven"]
    assert texts(output.api, f"executionId={first}&taskId=task-8") == []
    for wrong in ("taskId=first", "executionId=ffffffff-nobody"):
        answer = output.api.get(f"/v0/observability/logs?workloadIds=sweep&{wrong}")
        assert answer.status_code == (400 if "task" in wrong else 404)


def test_build_output_is_there_without_an_execution(output: Output) -> None:
    output.write(99, [(1, 0, "INFO", "installing")], kind="b")
    assert texts(output.api, "executionId=&taskId=") == ["installing"]


def test_the_window_is_inclusive_and_the_last_hour_by_default(output: Output) -> None:
    output.write(1, [(number, 0, "INFO", str(number)) for number in (1, 2, 3)])
    assert texts(output.api, window(output.noon, 2, 3)) == ["3", "2"]
    assert texts(output.api, window(output.noon, 4, 9)) == []
    output.api.later(3600 - 60 + 2)
    assert texts(output.api) == ["3", "2"]
    assert_problem(output.api.get("/v0/observability/logs?workloadIds=sweep&start=noon"), 400, "INVALID")


def test_limit_and_offset_page_through_lines(output: Output) -> None:
    output.write(1, [(number, 0, "INFO", str(number)) for number in range(10)])
    assert texts(output.api, "limit=3") == ["9", "8", "7"]
    assert texts(output.api, "limit=3&offset=3") == ["6", "5", "4"]
    assert_problem(output.api.get("/v0/observability/logs?workloadIds=sweep&limit=0"), 400, "INVALID")
    assert read(output.api, "limit=3")["totalCount"] == 10


def test_a_search_finds_text_in_any_case_and_says_when_it_stopped(output: Output) -> None:
    output.write(1, [(number, 0, "INFO", f"Line {number}") for number in range(10)])
    page = read(output.api, "search=LINE%203")
    assert ([line["message"] for line in page["logs"]], page["totalCount"], page["complete"]) == (["Line 3"], 1, True)
    page = read(output.api, "search=line&limit=2")
    assert (page["totalCount"], page["complete"]) == (2, False)


def test_many_blocks_are_read_in_pages(output: Output) -> None:
    for number in range(450):
        output.write(1, [(number / 10, 0, "INFO", str(number))])
    page = read(output.api)
    assert [line["message"] for line in page["logs"]] == [str(number) for number in reversed(range(450))]
    assert (page["totalCount"], page["complete"]) == (450, True)


def test_a_log_file_that_is_gone_leaves_a_line_that_says_so(output: Output) -> None:
    output.write(1, [(1, 0, "INFO", "lost")])
    (output.api.parts.arrivals.parent / "logs" / "x" / "1.log").unlink()
    assert "gone" in texts(output.api)[0]


def test_lines_of_builds_can_be_asked_for_alone_and_name_no_task(output: Output) -> None:
    output.write(1, [(1.0, 0, "INFO", "of a task")])
    output.write(2, [(2.0, 0, "INFO", "of a build")], kind="b")
    answer = read(output.api, "type=build")
    assert [line["message"] for line in answer["logs"]] == ["of a build"]
    assert "task" not in answer["logs"][0]
    assert answer["totalCount"] == 1


def test_a_cut_is_marked_where_output_was_dropped(output: Output) -> None:
    output.write(1, [(1.0, 0, "INFO", "the last line kept")], cut=True)
    newest, kept = read(output.api)["logs"]
    assert newest["message"] == "(output was dropped from here on: a limit was reached)"
    assert newest["severity"] == 13
    assert kept["message"] == "the last line kept"
