"""Uploaded archives: what is unpacked, and every way of doing harm with one that is refused."""

import io
import stat
import struct
import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from tidemill.node.build.source import SourceError, SourceLimits, names_file, unpack_source

LIMITS = SourceLimits(max_bytes=1_000_000, max_entries=100)


def _zip(path: Path, *entries: tuple[str | zipfile.ZipInfo, bytes]) -> Path:
    with warnings.catch_warnings(), zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        warnings.simplefilter("ignore")  # of the duplicates that we mean to write
        for name, data in entries:
            archive.writestr(name, data)
    return path


def _entry(name: str, mode: int) -> zipfile.ZipInfo:
    entry = zipfile.ZipInfo(name)
    entry.external_attr = mode << 16
    return entry


def test_files_and_folders_are_unpacked_with_the_executable_bit_only(tmp_path: Path) -> None:
    archive = _zip(
        tmp_path / "a.zip",
        ("empty/", b""),
        (_entry("run.sh", stat.S_IFREG | 0o4777), b"#!/bin/sh"),
        (_entry("./src//main.py", stat.S_IFREG | 0o600), b"print()"),
    )
    unpack_source(archive, tmp_path / "app", LIMITS)

    found = {
        str(path.relative_to(tmp_path / "app")): path.stat().st_mode & 0o7777 for path in tmp_path.rglob("app/**/*")
    }
    assert found["run.sh"] == 0o755
    assert found["src/main.py"] == 0o644
    assert set(found) == {"empty", "run.sh", "src", "src/main.py"}


def test_of_two_entries_with_one_name_the_last_wins(tmp_path: Path) -> None:
    archive = _zip(tmp_path / "a.zip", ("blaxel.toml", b"first, and longer"), ("x", b""), ("./blaxel.toml", b"last"))
    unpack_source(archive, tmp_path / "app", LIMITS)

    assert (tmp_path / "app" / "blaxel.toml").read_bytes() == b"last"


@pytest.mark.parametrize(
    "name", ["../evil", "a/../../evil", "/evil", "//evil", "C:evil", "C:/evil", "..\\evil", "a\\b", "a/..", "a\0b"]
)
def test_a_name_that_could_escape_is_refused(tmp_path: Path, name: str) -> None:
    archive = _zip(tmp_path / "a.zip", ("placeholder".ljust(len(name), "_")[: len(name)], b"x"))
    harmless = "placeholder".ljust(len(name), "_")[: len(name)].encode()
    archive.write_bytes(archive.read_bytes().replace(harmless, name.encode()))

    with pytest.raises(SourceError, match="the archive holds"):
        unpack_source(archive, tmp_path / "deep" / "app", LIMITS)
    assert [path.name for path in tmp_path.iterdir()] == ["a.zip"]


@pytest.mark.parametrize("kind", [stat.S_IFLNK, stat.S_IFCHR, stat.S_IFBLK, stat.S_IFIFO, stat.S_IFSOCK])
def test_a_link_or_a_device_is_refused(tmp_path: Path, kind: int) -> None:
    archive = _zip(tmp_path / "a.zip", (_entry("x", kind | 0o777), b"/etc/passwd"))
    with pytest.raises(SourceError, match="link or a device"):
        unpack_source(archive, tmp_path / "app", LIMITS)


@pytest.mark.parametrize("names", [("a", "a/b"), ("a/b", "a")])
def test_a_name_that_is_both_file_and_folder_is_refused(tmp_path: Path, names: tuple[str, str]) -> None:
    archive = _zip(tmp_path / "a.zip", *((name, b"") for name in names))
    with pytest.raises(SourceError, match="both as a file and as a folder"):
        unpack_source(archive, tmp_path / "app", LIMITS)


def test_a_bomb_is_stopped_at_the_limit(tmp_path: Path) -> None:
    archive = _zip(tmp_path / "a.zip", ("a", b"\0" * 600_000), ("b", b"\0" * 600_000))
    with pytest.raises(SourceError, match="more than this server's limit"):
        unpack_source(archive, tmp_path / "app", LIMITS)
    assert sum(path.stat().st_size for path in (tmp_path / "app").iterdir()) <= LIMITS.max_bytes


def test_a_zip_that_lies_about_its_sizes_is_caught(tmp_path: Path) -> None:
    archive = _zip(tmp_path / "a.zip", ("a", b"\0" * 2_000_000))
    archive.write_bytes(archive.read_bytes().replace(struct.pack("<L", 2_000_000), struct.pack("<L", 10)))
    with pytest.raises(SourceError, match="Bad CRC-32"):
        unpack_source(archive, tmp_path / "app", LIMITS)
    assert (tmp_path / "app" / "a").stat().st_size <= LIMITS.max_bytes


@pytest.mark.parametrize("declared", [101, 3])
def test_too_many_entries_are_refused_whatever_the_end_record_says(tmp_path: Path, declared: int) -> None:
    archive = _zip(tmp_path / "a.zip", *((f"f{number}", b"") for number in range(101)))
    data = bytearray(archive.read_bytes())
    struct.pack_into("<HH", data, len(data) - 14, declared, declared)
    archive.write_bytes(data)

    with pytest.raises(SourceError, match="more than 100 entries"):
        unpack_source(archive, tmp_path / "app", LIMITS)
    assert not (tmp_path / "app").exists()


def test_as_many_entries_and_bytes_as_the_limit_are_taken(tmp_path: Path) -> None:
    archive = _zip(tmp_path / "a.zip", *((f"f{number}", b"\0" * 10_000) for number in range(100)))
    unpack_source(archive, tmp_path / "app", LIMITS)
    assert len(list((tmp_path / "app").iterdir())) == 100


def _sixty_four_bit(data: bytes) -> bytes:
    """The same archive with a 64-bit end record and its locator before the ordinary one."""
    end = data.rfind(b"PK\5\6")
    size, offset = struct.unpack_from("<LL", data, end + 12)
    count = struct.unpack_from("<H", data, end + 10)[0]
    record = struct.pack("<4sQ2H2L4Q", b"PK\6\6", 44, 45, 45, 0, 0, count, count, size, offset)
    locator = struct.pack("<4sLQL", b"PK\6\7", 0, end, 1)
    ordinary = struct.pack("<4s4H2LH", b"PK\5\6", 0, 0, 0xFFFF, 0xFFFF, 0xFFFFFFFF, 0xFFFFFFFF, 0)
    return data[:end] + record + locator + ordinary


def test_a_large_format_zip_is_counted_too(tmp_path: Path) -> None:
    archive = _zip(tmp_path / "a.zip", *((f"f{number}", b"") for number in range(5)))
    archive.write_bytes(_sixty_four_bit(archive.read_bytes()))

    unpack_source(archive, tmp_path / "app", SourceLimits(max_entries=5))
    assert len(list((tmp_path / "app").iterdir())) == 5
    with pytest.raises(SourceError, match="more than 4 entries"):
        unpack_source(archive, tmp_path / "again", SourceLimits(max_entries=4))


def _flip(data: bytes) -> bytes:
    at = data.index(b"stored content")
    return data[:at] + b"S" + data[at + 1 :]


@pytest.mark.parametrize(
    "damage",
    [
        pytest.param(lambda _: b"", id="empty"),
        pytest.param(lambda _: b"hello" * 100, id="no zip"),
        pytest.param(lambda data: data[:-30], id="cut"),
        pytest.param(lambda data: data[60:], id="beheaded"),
        pytest.param(_flip, id="wrong checksum"),
        pytest.param(lambda data: data[:-10] + b"\xff" * 6 + data[-4:], id="wild directory"),
    ],
)
def test_what_is_not_a_whole_zip_is_refused(tmp_path: Path, damage: Callable[[bytes], bytes]) -> None:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("a", b"stored content" * 10)
    path = tmp_path / "a.zip"
    path.write_bytes(damage(buffer.getvalue()))

    with pytest.raises(SourceError, match=r"is not a (whole )?zip"):
        unpack_source(path, tmp_path / "app", LIMITS)


def test_another_compression_is_refused(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.zip", "w", zipfile.ZIP_LZMA) as archive:
        archive.writestr("a", b"x" * 100)
    with pytest.raises(SourceError, match="another way than deflate"):
        unpack_source(tmp_path / "a.zip", tmp_path / "app", LIMITS)


def test_an_over_long_name_is_refused_in_a_sentence(tmp_path: Path) -> None:
    archive = _zip(tmp_path / "a.zip", ("n" * 300, b""))
    with pytest.raises(SourceError, match="cannot be written: File name too long"):
        unpack_source(archive, tmp_path / "app", LIMITS)


@pytest.mark.parametrize(
    ("names", "has"),
    [
        (["Dockerfile"], True),
        (["a", "./Dockerfile"], True),
        (["Dockerfile/"], False),
        (["sub/Dockerfile", "Dockerfile.dev", "dockerfile", "Dockerfile" + "x" * 300], False),
        ([], False),
    ],
)
def test_a_file_of_the_folder_itself_is_found_without_unpacking(tmp_path: Path, names: list[str], has: bool) -> None:
    archive = _zip(tmp_path / "a.zip", *((name, b"") for name in names))
    assert names_file(archive, "Dockerfile", LIMITS) is has


def test_no_file_is_found_in_what_is_no_zip_or_too_big_for_one(tmp_path: Path) -> None:
    (tmp_path / "a.zip").write_bytes(b"no zip")
    assert not names_file(tmp_path / "a.zip", "Dockerfile", LIMITS)
    many = _zip(tmp_path / "b.zip", *((f"{number}", b"") for number in range(200)), ("Dockerfile", b""))
    assert not names_file(many, "Dockerfile", LIMITS)
