import os
import resource
import signal
from pathlib import Path

import pytest

from tidemill.blobs.logfiles import LogFiles
from tidemill.model.errors import NotFound, OutOfSpace


def test_what_is_appended_can_be_read_where_it_was_put(tmp_path: Path) -> None:
    files = LogFiles(tmp_path / "logs")
    places = [files.append("7/hour-n1.log", data) for data in (b"one", b"", b"three")]
    assert places == [0, 3, 3]
    files.sync()
    assert files.append("7/hour-n1.log", b"four") == 8
    files.sync()
    assert files.read("7/hour-n1.log", 3, 5) == b"three"
    assert files.read("7/hour-n1.log", 8, 99) == b"four"


def test_another_life_goes_on_at_the_end_of_a_file(tmp_path: Path) -> None:
    first = LogFiles(tmp_path)
    first.append("7/a.log", b"one")
    first.sync()
    second = LogFiles(tmp_path)
    assert second.append("7/a.log", b"two") == 3
    second.sync()


def test_only_their_owner_reads_them_and_nothing_stays_open(tmp_path: Path) -> None:
    before = len(list(Path("/proc/self/fd").iterdir()))
    files = LogFiles(tmp_path / "logs")
    for number in range(20):
        files.append(f"{number}/a.log", b"x")
    files.sync()
    assert len(list(Path("/proc/self/fd").iterdir())) == before
    assert (tmp_path / "logs" / "3" / "a.log").stat().st_mode & 0o777 == 0o600
    assert (tmp_path / "logs" / "3").stat().st_mode & 0o777 == 0o700


def test_a_file_that_is_gone_is_said_to_be(tmp_path: Path) -> None:
    with pytest.raises(NotFound):
        LogFiles(tmp_path).read("7/a.log", 0, 1)


@pytest.mark.parametrize("name", ["../x", "7/../../x", "/etc/passwd"])
def test_a_name_cannot_lead_out_of_the_directory(tmp_path: Path, name: str) -> None:
    with pytest.raises(ValueError, match="no name"):
        LogFiles(tmp_path).append(name, b"x")


def test_after_a_write_that_did_not_fit_the_file_goes_on_behind_it(tmp_path: Path) -> None:
    pid = os.fork()
    if pid == 0:  # a limit on the size of files stands in for a full disk, in a process of its own
        code = 1
        try:
            code = _full_disk(tmp_path)
        finally:
            os._exit(code)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0


def _full_disk(root: Path) -> int:
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    files = LogFiles(root)
    files.append("7/a.log", b"one")
    hard = resource.getrlimit(resource.RLIMIT_FSIZE)[1]
    resource.setrlimit(resource.RLIMIT_FSIZE, (5, hard))
    try:
        files.append("7/a.log", b"far too long")
    except OutOfSpace:
        resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))
        offset = files.append("7/a.log", b"two")
        files.sync()
        return 0 if files.read("7/a.log", offset, 3) == b"two" and offset == 5 else 2
    return 3
