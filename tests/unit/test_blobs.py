from pathlib import Path

import pytest

from tidemill.blobs import Blobs
from tidemill.model.errors import NotFound


def test_bytes_come_back_by_name(tmp_path: Path) -> None:
    blobs = Blobs(tmp_path / "blobs")
    source = tmp_path / "source"
    source.write_bytes(b"x" * 3_000_000)
    blobs.put_file("sources/a.zip", source)
    blobs.put_stream("images/b.tar.gz", iter([b"one", b"two"]))
    assert blobs.get("sources/a.zip") == source.read_bytes()
    assert blobs.path("images/b.tar.gz").read_bytes() == b"onetwo"
    blobs.put_stream("images/b.tar.gz", iter([b"three"]))
    assert blobs.get("images/b.tar.gz") == b"three"
    blobs.delete("images/b.tar.gz")
    blobs.delete("images/b.tar.gz")
    assert not blobs.exists("images/b.tar.gz")
    with pytest.raises(NotFound):
        blobs.get("images/b.tar.gz")


def test_a_file_is_taken_without_a_copy(tmp_path: Path) -> None:
    blobs = Blobs(tmp_path / "blobs")
    source = tmp_path / "source"
    source.write_bytes(b"x")
    inode = source.stat().st_ino
    blobs.take_file("sources/a.zip", source)
    assert blobs.path("sources/a.zip").stat().st_ino == inode
    assert not source.exists()


def test_a_move_may_come_twice(tmp_path: Path) -> None:
    blobs = Blobs(tmp_path / "blobs")
    blobs.put_stream("incoming/b-1-1.tar.gz", iter([b"x"]))
    for _ in range(2):
        blobs.move("incoming/b-1-1.tar.gz", "images/d.tar.gz")
    assert blobs.get("images/d.tar.gz") == b"x"
    assert not blobs.exists("incoming/b-1-1.tar.gz")
    # the same image built twice: the second one is not left lying about
    blobs.put_stream("incoming/b-2-1.tar.gz", iter([b"x"]))
    blobs.move("incoming/b-2-1.tar.gz", "images/d.tar.gz")
    assert not blobs.exists("incoming/b-2-1.tar.gz")
    with pytest.raises(NotFound):
        blobs.move("incoming/b-3-1.tar.gz", "images/e.tar.gz")


@pytest.mark.parametrize("name", ["../outside", "/etc/passwd", "images/../../outside"])
def test_no_name_leaves_the_store(tmp_path: Path, name: str) -> None:
    with pytest.raises(ValueError, match="no name of a blob"):
        Blobs(tmp_path / "blobs").path(name)


def test_folders_are_for_their_owner_only(tmp_path: Path) -> None:
    Blobs(tmp_path / "blobs")
    folders = [tmp_path / "blobs", *(tmp_path / "blobs").iterdir()]
    assert {folder.stat().st_mode & 0o777 for folder in folders} == {0o700}
