"""The client over real sockets: headers, repetitions, uploads, streams, broken connections."""

import hashlib
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from tidemill.sdk import ApiError, BadAnswerError, Client, ConnectionFailedError, Endpoint, PageQuery

from .conftest import Reply, WireServer

GONE = Reply(cut=True)


def connect(wire: WireServer, pauses: list[float] | None = None) -> Client:
    waited = pauses if pauses is not None else []
    endpoint = Endpoint(api_url=wire.url, api_key="key-1", workspace="main")
    return Client(endpoint, delays_s=(0.1, 0.2), sleep=waited.append)


def test_every_request_says_who_where_and_which_version(wire: WireServer) -> None:
    wire.on("GET /v0/jobs/etl", Reply(body={"metadata": {"name": "etl"}}))
    with connect(wire) as client:
        assert client.get_job("etl")["metadata"]["name"] == "etl"
    headers = wire.seen[0].headers
    assert headers["authorization"] == "Bearer key-1"
    assert headers["x-blaxel-workspace"] == "main"
    assert headers["blaxel-version"] == "2026-04-28"
    assert headers["user-agent"].startswith("tidemill/")


def test_a_job_that_was_written_is_answered_with_the_servers_time(wire: WireServer) -> None:
    wire.on("PUT /v0/jobs/etl", Reply(body={"metadata": {"name": "etl"}}))
    before = datetime.now(UTC) - timedelta(seconds=1)
    with connect(wire) as client:
        at = client.put_job({"metadata": {"name": "etl"}}).at
    assert at is not None
    assert before <= at <= datetime.now(UTC)


def test_a_broken_connection_is_tried_again_with_the_same_key(wire: WireServer) -> None:
    pauses: list[float] = []
    wire.on("POST /v0/jobs/etl/executions", GONE, GONE, Reply(body={"executionId": "e-1"}))
    with connect(wire, pauses) as client:
        assert client.create_execution("etl", b'{"tasks":[{}]}')["executionId"] == "e-1"
    keys = {seen.headers["idempotency-key"] for seen in wire.seen}
    assert len(wire.seen) == 3
    assert len(keys) == 1
    assert pauses == [0.1, 0.2]
    assert {seen.body for seen in wire.seen} == {b'{"tasks":[{}]}'}


def test_two_executions_have_two_keys(wire: WireServer) -> None:
    wire.on("POST /v0/jobs/etl/executions", Reply(body={"executionId": "e-1"}))
    with connect(wire) as client:
        client.create_execution("etl")
        client.create_execution("etl")
    assert len({seen.headers["idempotency-key"] for seen in wire.seen}) == 2


def test_a_new_job_is_not_sent_twice_over_a_broken_connection(wire: WireServer) -> None:
    wire.on("POST /v0/jobs", GONE, Reply(body={"metadata": {"name": "etl"}}))
    with connect(wire) as client, pytest.raises(ConnectionFailedError):
        client.post_job({"metadata": {"name": "etl"}})
    assert len(wire.seen) == 1


def test_a_server_that_asks_for_patience_gets_it(wire: WireServer) -> None:
    pauses: list[float] = []
    busy = Reply(status=503, headers={"x-should-retry": "true", "Retry-After": "2"}, body={"error": "full"})
    wire.on("POST /v0/jobs", busy, Reply(body={"metadata": {"name": "etl"}}))
    with connect(wire, pauses) as client:
        client.post_job({"metadata": {"name": "etl"}})
    assert pauses == [2.0]


def test_any_other_error_is_final_and_complete(wire: WireServer) -> None:
    body = {"code": 409, "error": "conflict", "error_code": "CONFLICT", "message": "the job is being deleted"}
    wire.on("POST /v0/jobs/etl/executions", Reply(status=409, body=body))
    with connect(wire) as client, pytest.raises(ApiError) as caught:
        client.create_execution("etl")
    assert (caught.value.status, caught.value.error_code) == (409, "CONFLICT")
    assert caught.value.request == f"POST {wire.url}/jobs/etl/executions"
    assert len(wire.seen) == 1


def test_patience_ends_with_the_servers_own_error(wire: WireServer) -> None:
    wire.on("GET /v0/jobs", Reply(status=503, headers={"x-should-retry": "true"}, body={"error": "disk is full"}))
    with connect(wire) as client, pytest.raises(ApiError, match="disk is full"):
        client.list_jobs(PageQuery())
    assert len(wire.seen) == 3


def test_an_upload_carries_no_credential_and_its_length(wire: WireServer, tmp_path: Path) -> None:
    archive = tmp_path / "source.zip"
    archive.write_bytes(b"zip" * 100_000)
    wire.on("PUT /uploads/abc", Reply(body={}))
    with connect(wire) as client:
        client.upload(f"{wire.origin}/uploads/abc?sig=secret", archive)
    (seen,) = wire.seen
    assert seen.headers["content-type"] == "application/zip"
    assert seen.headers["content-length"] == "300000"
    assert "transfer-encoding" not in seen.headers
    assert not {"authorization", "x-blaxel-authorization", "x-blaxel-workspace"} & set(seen.headers)
    assert hashlib.sha256(seen.body).digest() == hashlib.sha256(archive.read_bytes()).digest()


def test_an_upload_is_successful_with_200_only_and_its_error_hides_the_query(wire: WireServer, tmp_path: Path) -> None:
    archive = tmp_path / "source.zip"
    archive.write_bytes(b"zip")
    wire.on("PUT /uploads/abc", Reply(status=204, body=b""))
    with connect(wire) as client, pytest.raises(ApiError) as caught:
        client.upload(f"{wire.origin}/uploads/abc?sig=secret", archive)
    assert "secret" not in str(caught.value) + caught.value.request


def test_results_are_read_while_they_come_and_from_an_index_on(wire: WireServer) -> None:
    lines = b'{"index":0,"result":1}\n{"index":2,"result":{"t":"a\xe2\x80\xa8b"}}\n'
    wire.on("GET /v0/jobs/etl/executions/e-1/results", Reply(body=lines))
    with connect(wire) as client:
        assert [line["index"] for line in client.results("etl", "e-1", follow=True)] == [0, 2]
        assert [line["result"] for line in client.results("etl", "e-1", after=0)] == [{"t": "a\u2028b"}]
    assert wire.seen[0].query == {"follow": "true"}


def test_results_that_break_off_are_an_error_after_the_lines_that_came(wire: WireServer) -> None:
    wire.on("GET /v0/jobs/etl/executions/e-1/results", Reply(body=b'{"index":0}\n', cut=True))
    with connect(wire) as client:
        lines = client.results("etl", "e-1")
        assert next(lines) == {"index": 0}
        with pytest.raises(ConnectionFailedError):
            next(lines)


def test_an_error_of_a_stream_is_read_like_any_other(wire: WireServer) -> None:
    with connect(wire) as client, pytest.raises(ApiError, match="no GET"):
        next(client.results("etl", "e-1"))


def test_an_answer_that_is_no_json_is_told_apart_from_an_error(wire: WireServer) -> None:
    wire.on("GET /v0/jobs", Reply(body=b"<html>welcome</html>"))
    with connect(wire) as client, pytest.raises(BadAnswerError, match="welcome"):
        client.list_jobs(PageQuery())


def test_nobody_there_is_an_error_with_a_reason() -> None:
    endpoint = Endpoint(api_url="http://127.0.0.1:1/v0", api_key="k")
    with Client(endpoint, delays_s=()) as client, pytest.raises(ConnectionFailedError, match="refused"):
        client.list_jobs(PageQuery())


def test_a_proxy_of_the_environment_does_not_stand_before_this_machine(
    wire: WireServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    monkeypatch.delenv("no_proxy", raising=False)
    monkeypatch.delenv("NO_PROXY", raising=False)
    wire.on("GET /v0/jobs/etl", Reply(body={}))
    with connect(wire) as client:
        client.get_job("etl")
