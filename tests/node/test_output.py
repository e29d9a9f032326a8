"""Lines, their severities, and blocks of them."""

import pytest

from tidemill.model.lease import Severity, Stream
from tidemill.node.output.lines import MAX_LINE_BYTES, LineSplitter, severity_of


def split(*pieces: bytes) -> list[str]:
    splitter = LineSplitter()
    return [line for piece in pieces for line in splitter.feed(piece)] + list(splitter.finish())


def test_a_line_may_come_in_pieces_and_the_last_without_an_end() -> None:
    assert split(b"on", b"e\ntwo\r\n\nth", b"", b"ree") == ["one", "two", "", "three"]


def test_a_character_may_come_in_pieces() -> None:
    text = "grüße\n".encode()
    assert split(*(text[i : i + 1] for i in range(len(text)))) == ["grüße"]


def test_what_is_no_text_is_replaced() -> None:
    assert split(b"a\xffb\n") == ["a�b"]


@pytest.mark.parametrize("pieces", [1, 7, 100_000])
def test_a_long_line_is_split_at_64_kib_and_not_inside_a_character(pieces: int) -> None:
    text = "é" * 100_000
    data = b"x" + text.encode()
    size = len(data) // pieces + 1
    found = split(*(data[at : at + size] for at in range(0, len(data), size)), b"\nend\n")
    assert "".join(found[:-1]) == "x" + text
    assert found[-1] == "end"
    assert all(len(line.encode()) <= MAX_LINE_BYTES for line in found)
    assert len(found) == 5


@pytest.mark.parametrize(
    ("stream", "text", "severity"),
    [
        (Stream.STDOUT, "hello", Severity.INFO),
        (Stream.STDERR, "hello", Severity.ERROR),
        (Stream.STDERR, '{"severity": "INFO", "message": "x"}', Severity.INFO),
        (Stream.STDOUT, '{"level": "warn"}', Severity.WARNING),
        (Stream.STDOUT, '{"level": 50}', Severity.ERROR),
        (Stream.STDOUT, '{"level": true}', Severity.INFO),
        (Stream.STDERR, '{"level": "loud"}', Severity.ERROR),
        (Stream.STDERR, '{"severity": {}}', Severity.ERROR),
        (Stream.STDERR, '{"severity": "INFO"', Severity.ERROR),
        (Stream.STDOUT, "{" * 60_000 + "}", Severity.INFO),
        (Stream.STDOUT, '{"severity":"FATAL"}\r', Severity.FATAL),
    ],
)
def test_a_line_says_how_severe_it_is_itself_or_its_stream_does(stream: Stream, text: str, severity: Severity) -> None:
    assert severity_of(stream, text) is severity
