"""Images that no honest build makes: what runs in a build can leave any archive as its image."""

import gzip
import hashlib
import io
import os
import shutil
import tarfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.node.prison import Node, Prison, prison, why_not, why_not_at
from tests.node.rig import Rig
from tests.node.roots import fill
from tidemill.model.lease import BlobRef, OutcomeKind
from tidemill.node.build.archive import (
    HEADER_MAX_BYTES,
    MANIFEST_MAX_BYTES,
    ArchiveError,
    ImageManifest,
    RootConfig,
    pack_image,
    read_image,
    unpack_image,
)
from tidemill.node.isolation.level import Level

LEVELS = [Level.PROCESS, Level.SANDBOX]
MANIFEST = b'{"format": 1, "command": ["true"], "language": "command", "python_prefix": null}'


def forged(rig: Rig, manifest: ImageManifest, app: Path) -> BlobRef:
    """An image with any manifest, of the folder ``app``."""
    packed = pack_image(manifest, app, rig.blobs / "image")
    name = f"images/{packed.digest}.tar.gz"
    (rig.blobs / "image").rename(rig.blobs / name)
    return BlobRef(name=name, digest=packed.digest)


@pytest.fixture(scope="module", params=LEVELS)
def ordinary(request: pytest.FixtureRequest) -> Iterator[Prison]:
    if os.geteuid() != 0:
        pytest.skip("only root can start nodes of several users")
    if why := why_not(Node.ORDINARY) or why_not_at(request.param):
        pytest.skip(why)
    with prison(Node.ORDINARY, request.param) as found:
        yield found


@pytest.mark.parametrize("where", ["/", "{data}", "{data}/images/..", "/usr/../{data}"])
def test_an_image_does_not_say_what_its_tasks_may_read(ordinary: Prison, tmp_path: Path, where: str) -> None:
    prefix = where.format(data=ordinary.rig.data)
    manifest = ImageManifest(
        command=("/bin/sh", "-c", 'cat "$DATA/keyring.json"'), language="command", python_prefix=prefix
    )
    lease = ordinary.launch(forged(ordinary.rig, manifest, tmp_path), environment=ordinary.variables)
    outcome = ordinary.reader.outcome(lease.attempt)
    assert outcome.kind is OutcomeKind.LAUNCH_ERROR
    assert prefix in outcome.message
    assert "task_read_paths" in outcome.message


def test_an_image_may_name_the_interpreter_of_the_machine(ordinary: Prison, tmp_path: Path) -> None:
    manifest = ImageManifest(command=("/bin/sh", "-c", "true"), language="command", python_prefix="/usr")
    lease = ordinary.launch(forged(ordinary.rig, manifest, tmp_path))
    assert ordinary.reader.outcome(lease.attempt).kind is OutcomeKind.SUCCEEDED


@pytest.fixture(scope="module")
def contained() -> Iterator[Prison]:
    if why := why_not_at(Level.CONTAINER):
        pytest.skip(why)
    with prison(Node.ROOT, Level.CONTAINER) as found:
        yield found


def test_a_link_where_a_container_mounts_does_not_lead_to_the_machine(contained: Prison, tmp_path: Path) -> None:
    # what the machine has there, for everybody to write
    outside = contained.rig.root / "outside"
    (outside / "tmp").mkdir(parents=True)
    (outside / "tmp").chmod(0o777)
    root = tmp_path / "root"
    root.mkdir()
    fill(root)
    # the same path inside, so that the runtime finds all that it needs
    (root / str(outside).lstrip("/")).mkdir(parents=True)
    (root / ".tidemill").rmdir()
    (root / ".tidemill").symlink_to(outside)
    manifest = ImageManifest(command=("/bin/sh", "-c", "echo > /tmp/left"), language="root", root=RootConfig())
    lease = contained.launch(forged(contained.rig, manifest, root))
    outcome = contained.reader.outcome(lease.attempt)
    assert list((outside / "tmp").iterdir()) == []
    assert outcome.kind is OutcomeKind.LAUNCH_ERROR
    assert ".tidemill" in outcome.message


def packed_with(entries: list[tuple[tarfile.TarInfo, bytes]], out: Path) -> Path:
    with gzip.open(out, "wb", compresslevel=1) as file, tarfile.open(fileobj=file, mode="w|") as tar:
        for entry, data in entries:
            entry.size = len(data)
            tar.addfile(entry, io.BytesIO(data))
    return out


def header(name: str, kind: bytes) -> tarfile.TarInfo:
    entry = tarfile.TarInfo(name)
    entry.type = kind
    return entry


def record(name: str, value: str) -> bytes:
    """Of an extended header: its own length in decimal, then ``name=value``."""
    rest = f" {name}={value}\n"
    length = len(rest)
    while len(str(length)) + len(rest) != length:
        length = len(str(length)) + len(rest)
    return f"{length}{rest}".encode()


LONG = "x" * (HEADER_MAX_BYTES + 1)


@pytest.mark.parametrize(
    ("kind", "text"),
    [
        (tarfile.XHDTYPE, record("comment", LONG)),
        (tarfile.XGLTYPE, record("comment", LONG)),
        (tarfile.SOLARIS_XHDTYPE, record("comment", LONG)),
        (tarfile.GNUTYPE_LONGNAME, LONG.encode()),
        (tarfile.GNUTYPE_LONGLINK, LONG.encode()),
    ],
)
def test_a_header_of_an_archive_does_not_fill_the_memory_of_the_node(tmp_path: Path, kind: bytes, text: bytes) -> None:
    entries = [(header("long", kind), text), (tarfile.TarInfo("image.json"), MANIFEST)]
    made = packed_with(entries, tmp_path / "image.tar.gz")
    with pytest.raises(ArchiveError, match="header of an image archive"):
        unpack_image(made, tmp_path / "image")
    assert not (tmp_path / "image").exists()


def test_a_list_of_holes_does_not_fill_the_memory_of_the_node(tmp_path: Path) -> None:
    holes = record("GNU.sparse.major", "1") + record("GNU.sparse.minor", "0") + record("GNU.sparse.realsize", "1")
    entries = [
        (header("holes", tarfile.XHDTYPE), holes),
        (tarfile.TarInfo("image.json"), b"1\n0\n1\n".ljust(512, b"\0")),
    ]
    made = packed_with(entries, tmp_path / "image.tar.gz")
    with pytest.raises(ArchiveError, match="holes"):
        unpack_image(made, tmp_path / "image")
    assert not (tmp_path / "image").exists()


def test_a_manifest_does_not_fill_the_memory_of_the_node(tmp_path: Path) -> None:
    text = b"[" * (MANIFEST_MAX_BYTES + 1)
    made = packed_with([(tarfile.TarInfo("image.json"), text)], tmp_path / "image.tar.gz")
    with pytest.raises(ArchiveError, match=r"image\.json"):
        unpack_image(made, tmp_path / "image")
    assert not (tmp_path / "image").exists()


def test_a_manifest_that_nests_too_deep_is_none(tmp_path: Path) -> None:
    (tmp_path / "image.json").write_text("[" * 100_000)
    with pytest.raises(ArchiveError, match=r"image\.json"):
        read_image(tmp_path)


def test_long_names_of_honest_archives_are_read(tmp_path: Path) -> None:
    app = tmp_path / "app"
    deep = app / "/".join("d" * 100 for _ in range(5))
    deep.mkdir(parents=True)
    (deep / ("f" * 200)).symlink_to("t" * 200)
    packed = pack_image(ImageManifest(command=("true",), language="command"), app, tmp_path / "image.tar.gz")
    unpack_image(tmp_path / "image.tar.gz", tmp_path / packed.digest)
    assert (tmp_path / packed.digest / "app" / deep.relative_to(app) / ("f" * 200)).is_symlink()
    shutil.rmtree(tmp_path / packed.digest)
    assert hashlib.sha256((tmp_path / "image.tar.gz").read_bytes()).hexdigest() == packed.digest
