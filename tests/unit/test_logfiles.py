from pathlib import Path

import pytest

from tidemill.blobs.logfiles import LogFiles
from tidemill.model.errors import NotFound


@pytest.fixture
def files(tmp_path: Path) -> LogFiles:
    return LogFiles(tmp_path / "logs")


def test_what_was_appended_is_read_where_it_lies(files: LogFiles) -> None:
    first, second = files.append("1/a.log", b"one"), files.append("1/a.log", b"two")
    files.sync()
    assert (first, second) == (0, 3)
    assert files.read("1/a.log", second, 3) == b"two"
    with pytest.raises(NotFound, match="is gone"):
        files.read("1/b.log", 0, 1)


def test_a_batch_that_is_taken_back_leaves_no_bytes(files: LogFiles, tmp_path: Path) -> None:
    files.append("1/a.log", b"kept")
    files.sync()
    files.keep()
    for _ in range(3):
        assert files.append("1/a.log", b"torn") == 4
        files.append("2/b.log", b"new")
        files.sync()
        files.undo()
    assert (tmp_path / "logs/1/a.log").read_bytes() == b"kept"
    assert (tmp_path / "logs/2/b.log").read_bytes() == b""


def test_what_another_server_has_appended_since_is_not_taken_back(files: LogFiles, tmp_path: Path) -> None:
    other = LogFiles(tmp_path / "logs")
    files.append("1/a.log", b"torn")
    assert other.append("1/a.log", b"kept") == 4
    other.sync()
    other.keep()
    files.undo()
    assert files.read("1/a.log", 4, 4) == b"kept"


def test_a_name_cannot_leave_the_folder(files: LogFiles) -> None:
    with pytest.raises(ValueError, match="no name of a log file"):
        files.append("../outside.log", b"x")
