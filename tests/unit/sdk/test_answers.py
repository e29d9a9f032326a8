"""Answers as values: what the client reads from bytes."""

from datetime import UTC, datetime

import pytest

from tidemill.sdk import BadAnswerError
from tidemill.sdk.answers import (
    Answer,
    api_error,
    date,
    is_repeated,
    read_list,
    read_logs,
    read_object,
    read_page,
    retry_after_s,
    split_lines,
)


def answer(body: bytes, status: int = 200, **headers: str) -> Answer:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return Answer(request="GET http://h/v0/x", status=status, headers=named, body=body)


def test_an_error_of_the_server_is_read_member_by_member() -> None:
    body = b'{"code":404,"error":"job not found","error_code":"JOB_NOT_FOUND","message":"no job \\"etl\\""}'
    error = api_error(answer(body, 404))
    assert (error.status, error.error, error.error_code) == (404, "job not found", "JOB_NOT_FOUND")
    assert str(error) == 'no job "etl"'
    assert error.request == "GET http://h/v0/x"


def test_an_error_without_a_message_speaks_by_its_words() -> None:
    assert str(api_error(answer(b'{"code":401,"error":"Unauthorized"}', 401))) == "Unauthorized"


def test_an_error_page_of_a_proxy_becomes_one_line() -> None:
    error = api_error(answer(b"<html>\n<h1>Bad   gateway</h1>\n" + b"x" * 5000, 502))
    assert str(error).startswith("GET http://h/v0/x was answered with 502 <html> <h1>Bad gateway</h1>")
    assert len(str(error)) < 300
    assert error.error_code == ""


def test_an_error_that_is_a_json_array_is_no_crash() -> None:
    assert api_error(answer(b"[1]", 500)).status == 500


def test_only_a_503_that_asks_for_it_is_repeated() -> None:
    assert is_repeated(answer(b"", 503, x_should_retry="true"))
    assert not is_repeated(answer(b"", 503))
    assert not is_repeated(answer(b"", 429, x_should_retry="true"))
    assert not is_repeated(answer(b"", 503, x_should_retry="false"))


@pytest.mark.parametrize(("value", "seconds"), [("3", 3.0), ("", 0.0), ("soon", 0.0), ("86400", 30.0), ("-1", 0.0)])
def test_retry_after_is_taken_in_bounds(value: str, seconds: float) -> None:
    assert retry_after_s({"retry-after": value}) == seconds


def test_a_page_has_items_cursor_and_total() -> None:
    page = read_page(answer(b'{"data":[{"a":1}],"meta":{"hasMore":true,"nextCursor":"c","total":7}}'))
    assert (page.items, page.next_cursor, page.total) == ([{"a": 1}], "c", 7)


def test_a_cursor_on_the_last_page_is_no_invitation() -> None:
    page = read_page(answer(b'{"data":[],"meta":{"hasMore":false,"nextCursor":"c","total":0}}'))
    assert page.next_cursor == ""


@pytest.mark.parametrize("body", [b"[]", b"{}", b'{"data":[]}', b'{"data":{},"meta":{}}', b"<html>", b"", b'{"data'])
def test_what_is_no_page_is_refused(body: bytes) -> None:
    with pytest.raises(BadAnswerError):
        read_page(answer(body))


def test_objects_and_lists_are_not_mixed_up() -> None:
    with pytest.raises(BadAnswerError):
        read_object(answer(b"[]"))
    with pytest.raises(BadAnswerError):
        read_list(answer(b"{}"))


def test_logs_without_an_entry_for_the_job_are_no_lines() -> None:
    assert read_logs(answer(b"{}"), "etl") == {"logs": [], "totalCount": 0}
    assert read_logs(answer(b'{"etl":{"logs":[{"message":"hi"}],"totalCount":1}}'), "etl")["totalCount"] == 1


def test_lines_are_cut_at_newlines_only_and_over_chunks() -> None:
    separator = "\u2028".encode()
    chunks = [b'{"a":"x', separator, b'y"}\n\n{"b"', b":1}\n", b'{"c":2}']
    assert list(split_lines(chunks)) == [b'{"a":"x' + separator + b'y"}', b'{"b":1}', b'{"c":2}']
    assert list(split_lines([])) == []


def test_the_date_of_an_answer_is_read_where_it_is_one() -> None:
    assert date({"date": "Fri, 21 Aug 2026 10:00:00 GMT"}) == datetime(2026, 8, 21, 10, 0, tzinfo=UTC)
    assert date({"date": "soon"}) is None
    assert date({}) is None
