import os
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


def aged(blobs: Blobs, name: str, at_s: float) -> None:
    blobs.put_stream(name, iter([b"x"]))
    os.utime(blobs.path(name), (at_s, at_s))


def test_old_blobs_are_listed_and_removed_unless_they_are_wanted(tmp_path: Path) -> None:
    blobs = Blobs(tmp_path / "blobs")
    aged(blobs, "images/old.tar.gz", 1_000)
    aged(blobs, "images/new.tar.gz", 9_000)
    assert blobs.older("images", 5_000) == ["images/old.tar.gz"]
    assert not blobs.remove_unless("images/old.tar.gz", 5_000, lambda: True)
    assert blobs.exists("images/old.tar.gz")
    assert not blobs.remove_unless("images/new.tar.gz", 5_000, lambda: False)
    assert blobs.exists("images/new.tar.gz")
    assert blobs.remove_unless("images/old.tar.gz", 5_000, lambda: False)
    assert blobs.older("images", 5_000) == []
    assert not blobs.remove_unless("images/old.tar.gz", 5_000, lambda: False)


def test_a_move_onto_an_old_blob_makes_it_new(tmp_path: Path) -> None:
    blobs = Blobs(tmp_path / "blobs")
    aged(blobs, "images/d.tar.gz", 1_000)
    blobs.put_stream("incoming/b-1-1.tar.gz", iter([b"x"]))
    blobs.move("incoming/b-1-1.tar.gz", "images/d.tar.gz")
    assert blobs.older("images", 5_000) == []
    assert not blobs.remove_unless("images/d.tar.gz", 5_000, lambda: False)
    assert blobs.exists("images/d.tar.gz")


def test_a_blob_that_comes_while_the_old_one_is_removed_stays(tmp_path: Path) -> None:
    blobs = Blobs(tmp_path / "blobs")
    aged(blobs, "images/d.tar.gz", 1_000)

    def build_ends() -> bool:
        blobs.put_stream("incoming/b-1-1.tar.gz", iter([b"x"]))
        blobs.move("incoming/b-1-1.tar.gz", "images/d.tar.gz")
        return False

    blobs.remove_unless("images/d.tar.gz", 5_000, build_ends)
    assert blobs.exists("images/d.tar.gz")


def test_a_removal_that_a_kill_cut_short_is_taken_up_again(tmp_path: Path) -> None:
    blobs = Blobs(tmp_path / "blobs")

    def killed() -> bool:
        raise KeyboardInterrupt

    for wanted in (True, False):
        aged(blobs, "images/d.tar.gz", 1_000)
        with pytest.raises(KeyboardInterrupt):
            blobs.remove_unless("images/d.tar.gz", 5_000, killed)
        assert not blobs.exists("images/d.tar.gz")
        assert blobs.older("images", 5_000) == ["images/d.tar.gz"]
        blobs.remove_unless("images/d.tar.gz", 5_000, lambda: wanted)  # noqa: B023 - called at once
        assert blobs.exists("images/d.tar.gz") is wanted
    assert blobs.older("images", 5_000) == []
