"""Image archives: packed, unpacked whole or not at all, and never outside their folder."""

import gzip
import hashlib
import io
import json
import os
import tarfile
from pathlib import Path

import pytest

from tidemill.node.build.archive import (
    PARTIAL_PREFIX,
    ArchiveError,
    ImageManifest,
    pack_image,
    read_image,
    unpack_image,
)

IMAGE = ImageManifest(command=("sh", "main.sh"), language="command", python_prefix=None)


@pytest.fixture
def app(tmp_path: Path) -> Path:
    folder = tmp_path / "app"
    (folder / "src" / "deep").mkdir(parents=True)
    (folder / "src" / "main.py").write_text("print()")
    (folder / "empty").mkdir()
    (folder / "run.sh").write_text("#!/bin/sh")
    (folder / "run.sh").chmod(0o700)
    (folder / "python").symlink_to("/usr/bin/python3")
    (folder / "here").symlink_to("src")
    os.mkfifo(folder / "pipe")
    return folder


def _names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def _tar(path: Path, *entries: tuple[tarfile.TarInfo, bytes], whole: bool = True) -> Path:
    image = json.dumps({"format": 1, "command": ["true"], "language": "command", "python_prefix": None}).encode()
    first = [_entry("image.json", size=len(image)), _entry("app", tarfile.DIRTYPE)] if whole else []
    with gzip.open(path, "wb") as packed, tarfile.open(fileobj=packed, mode="w|") as tar:
        for entry, data in [*zip(first, [image, b""], strict=False), *entries]:
            tar.addfile(entry, io.BytesIO(data))
    return path


def _entry(name: str, kind: bytes = tarfile.REGTYPE, *, size: int = 0, link: str = "") -> tarfile.TarInfo:
    entry = tarfile.TarInfo(name)
    entry.type, entry.size, entry.linkname = kind, size, link
    return entry


def test_an_unpacked_image_is_the_tree_that_was_packed(tmp_path: Path, app: Path) -> None:
    packed = pack_image(IMAGE, app, tmp_path / "i.tar.gz")
    target = tmp_path / "images" / packed.digest
    target.parent.mkdir()
    old = os.umask(0o077)
    try:
        unpack_image(tmp_path / "i.tar.gz", target)
    finally:
        os.umask(old)

    assert read_image(target) == IMAGE
    assert (target / "app" / "src" / "main.py").read_text() == "print()"
    assert (target / "app" / "python").readlink() == Path("/usr/bin/python3")
    assert (target / "app" / "here" / "main.py").exists()
    modes = {str(path.relative_to(target)): path.lstat().st_mode & 0o777 for path in target.rglob("*")}
    assert modes | {"app/python": 0, "app/here": 0} == {
        "image.json": 0o644, "app": 0o755, "app/empty": 0o755, "app/here": 0, "app/python": 0, "app/run.sh": 0o755,
        "app/src": 0o755, "app/src/deep": 0o755, "app/src/main.py": 0o644,
    }  # fmt: skip
    assert target.stat().st_mode & 0o777 == 0o755
    assert _names(target.parent) == [packed.digest]


def test_the_digest_is_that_of_the_bytes_and_the_same_for_the_same_tree(tmp_path: Path, app: Path) -> None:
    first = pack_image(IMAGE, app, tmp_path / "1.tar.gz")
    os.utime(app / "run.sh", (1, 1))
    second = pack_image(IMAGE, app, tmp_path / "2.tar.gz")

    data = (tmp_path / "1.tar.gz").read_bytes()
    assert (first.digest, first.size_bytes) == (hashlib.sha256(data).hexdigest(), len(data))
    assert first == second
    assert data[4:8] == bytes(4)  # RFC 1952: no time of compression


def test_unpacking_again_changes_nothing(tmp_path: Path, app: Path) -> None:
    pack_image(IMAGE, app, tmp_path / "i.tar.gz")
    unpack_image(tmp_path / "i.tar.gz", tmp_path / "t")
    (tmp_path / "t" / "mark").touch()
    unpack_image(tmp_path / "i.tar.gz", tmp_path / "t")

    assert (tmp_path / "t" / "mark").exists()


def test_packing_that_fails_leaves_nothing(tmp_path: Path, app: Path) -> None:
    (app / "src" / "main.py").unlink()
    with pytest.raises(OSError, match="nowhere"):
        pack_image(IMAGE, tmp_path / "nowhere", tmp_path / "i.tar.gz")
    assert _names(tmp_path) == ["app"]


@pytest.mark.parametrize(
    "entries",
    [
        pytest.param([(_entry("../evil"), b"")], id="parent"),
        pytest.param([(_entry("app/../../evil"), b"")], id="parent below"),
        pytest.param([(_entry("app/.."), b"")], id="the folder above"),
        pytest.param([(_entry("/tmp/evil"), b"")], id="absolute"),
        pytest.param([(_entry("other/evil"), b"")], id="folder that was not made"),
        pytest.param(
            [(_entry("app/l", tarfile.SYMTYPE, link="/tmp"), b""), (_entry("app/l/evil"), b"")], id="below a link"
        ),
        pytest.param(
            [(_entry("app/l", tarfile.SYMTYPE, link="/tmp/x"), b""), (_entry("app/l"), b"")], id="through a link"
        ),
        pytest.param([(_entry("app/h", tarfile.LNKTYPE, link="/etc/passwd"), b"")], id="hard link"),
        pytest.param([(_entry("app/d", tarfile.CHRTYPE), b"")], id="device"),
        pytest.param([(_entry("app/p", tarfile.FIFOTYPE), b"")], id="pipe"),
        pytest.param([(_entry("app/a"), b""), (_entry("app/a"), b"")], id="twice"),
    ],
)
def test_an_archive_with_what_no_build_packs_is_refused(
    tmp_path: Path, entries: list[tuple[tarfile.TarInfo, bytes]]
) -> None:
    archive = _tar(tmp_path / "i.tar.gz", *entries)
    with pytest.raises(ArchiveError):
        unpack_image(archive, tmp_path / "t")
    assert _names(tmp_path) == ["i.tar.gz"]


@pytest.mark.parametrize("keep", [0, 10, 200, -9])
def test_a_damaged_archive_leaves_nothing(tmp_path: Path, app: Path, keep: int) -> None:
    (app / "noise").write_bytes(os.urandom(4000))
    pack_image(IMAGE, app, tmp_path / "i.tar.gz")
    data = (tmp_path / "i.tar.gz").read_bytes()
    (tmp_path / "i.tar.gz").write_bytes(data[:keep])

    with pytest.raises(ArchiveError):
        unpack_image(tmp_path / "i.tar.gz", tmp_path / "t")
    assert not [name for name in _names(tmp_path) if name == "t" or name.startswith(PARTIAL_PREFIX)]


@pytest.mark.parametrize(
    "document",
    [
        "no json",
        "[]",
        '{"format": 2, "command": ["x"], "language": "python", "python_prefix": null}',
        '{"format": 1, "command": [], "language": "python", "python_prefix": null}',
        '{"format": 1, "command": ["x", 1], "language": "python", "python_prefix": null}',
        '{"format": 1, "command": ["x"], "language": "python", "python_prefix": 1}',
    ],
)
def test_an_image_of_another_format_is_refused(tmp_path: Path, document: str) -> None:
    (tmp_path / "image.json").write_text(document)
    with pytest.raises(ArchiveError, match=r"image\.json"):
        read_image(tmp_path)


def test_an_archive_without_a_manifest_is_no_image(tmp_path: Path) -> None:
    archive = _tar(tmp_path / "i.tar.gz", (_entry("app", tarfile.DIRTYPE), b""), whole=False)
    with pytest.raises(ArchiveError, match="no image"):
        unpack_image(archive, tmp_path / "t")
    assert not (tmp_path / "t").exists()
