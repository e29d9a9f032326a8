"""A pull as the node runs it: a process that asks a registry on loopback, and what it makes of what it gets."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.registry import INDEX, PASSWORD, USER, Entry, RunningRegistry, running_registry, why_no_registry
from tidemill.node.build.archive import ImageManifest, read_image, unpack_image

WHY_NOT = why_no_registry()
pytestmark = pytest.mark.skipif(bool(WHY_NOT), reason=WHY_NOT)

RUN = {"Cmd": ["/bin/hello"]}


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningRegistry]:
    with running_registry(tmp_path_factory.mktemp("registry")) as found:
        yield found


@pytest.fixture(scope="module")
def closed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningRegistry]:
    with running_registry(tmp_path_factory.mktemp("closed"), has_password=True) as found:
        yield found


@dataclass
class Pulled:
    """How a pull ended; where it succeeded, ``root`` is the unpacked root file system."""

    code: int
    said: str
    work: Path

    @property
    def result(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads((self.work / "result.json").read_text())
        return found

    @property
    def root(self) -> Path:
        target = self.work / "unpacked"
        unpack_image(self.work / "image.tar.gz", target)
        return target / "app"

    @property
    def manifest(self) -> ImageManifest:
        return read_image(self.root.parent)


@dataclass
class Puller:
    work: Path

    def __call__(self, image: str, credentials: str = "", limits: Mapping[str, int] | None = None) -> Pulled:
        file = self.work / "credentials"
        if credentials:
            file.write_text(credentials)
        options = [f"--{name.replace('_', '-')}={value}" for name, value in (limits or {}).items()]
        places = [f"--out={self.work}/image.tar.gz", f"--result={self.work}/result.json", f"--work={self.work}"]
        done = subprocess.run(
            [
                sys.executable,
                "-m",
                "tidemill.node.build.oci",
                f"--image={image}",
                f"--credentials={file}",
                *places,
                *options,
            ],
            capture_output=True,
            text=True,
            check=False,
            env={"PATH": os.defpath, "NO_PROXY": "*"},
        )
        assert not file.exists()
        assert credentials.partition(":")[2] not in done.stdout + done.stderr or not credentials
        return Pulled(done.returncode, done.stdout + done.stderr, self.work)


@pytest.fixture
def pull(tmp_path: Path) -> Puller:
    return Puller(tmp_path)


def test_a_tag_is_pulled_and_pinned_by_its_digest(registry: RunningRegistry, pull: Puller) -> None:
    config = {
        "Entrypoint": ["/bin/hello", "there"],
        "Cmd": ["world"],
        "Env": ["A=1", "B=x=y"],
        "WorkingDir": "/srv",
        "User": "1000",
    }
    digest = registry.push("tools/hello", [[Entry("bin"), Entry("bin/hello", "#!x")]], tag="v1", config=config)
    done = pull(f"{registry.host}/tools/hello:v1")
    assert done.code == 0, done.said
    assert done.result["reference"] == f"{registry.host}/tools/hello:v1@{digest}"
    assert done.manifest.command == ("/bin/hello", "there", "world")
    assert done.manifest.root is not None
    assert done.manifest.root.environment == {"A": "1", "B": "x=y"}
    assert done.manifest.root.directory == "/srv"
    assert (done.root / "bin" / "hello").read_text() == "#!x"
    assert os.access(done.root / "bin" / "hello", os.X_OK)


def test_the_same_image_pulled_twice_is_the_same_image(registry: RunningRegistry, tmp_path: Path) -> None:
    digest = registry.push("same", [[Entry("a", "1")]], config=RUN)
    found = []
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        found.append(Puller(tmp_path / name)(f"{registry.host}/same@{digest}").result)
    assert found[0] == found[1]


def test_layers_add_replace_and_remove(registry: RunningRegistry, pull: Puller) -> None:
    layers = [
        [
            Entry("usr"),
            Entry("usr/bin"),
            Entry("bin", target="usr/bin"),
            Entry("usr/bin/old", "1"),
            Entry("d"),
            Entry("d/a", "1"),
        ],
        [Entry("usr/bin/hello", "2"), Entry("usr/bin/.wh.old", ""), Entry("d/.wh..wh..opq", ""), Entry("d/b", "2")],
        # through the link, as every layer of a merged /usr has it; a file in place of a directory
        [Entry("bin/third", "3"), Entry("same", target="usr/bin/hello", hard=True), Entry("e/f/g", "3")],
        [Entry("e", "file")],
    ]
    registry.push("layers", layers, config=RUN)
    done = pull(f"{registry.host}/layers")
    assert done.code == 0, done.said
    root = done.root
    assert {path.name for path in (root / "usr" / "bin").iterdir()} == {"hello", "third"}
    assert {path.name for path in (root / "d").iterdir()} == {"b"}
    assert (root / "same").read_text() == "2"
    assert (root / "e").read_text() == "file"
    assert (root / "bin").readlink() == Path("usr/bin")


@pytest.mark.parametrize(
    ("layers", "word"),
    [
        ([[Entry("../out", "x")]], "leads out of it"),
        ([[Entry("a/../../out", "x")]], "leads out of it"),
        ([[Entry("in", target="../../../../out", hard=True)]], "leads out of it"),
        ([[Entry("loop", target="loop"), Entry("loop/a", "x")]], "circle"),
    ],
)
def test_an_image_that_leads_out_of_itself_is_refused(
    registry: RunningRegistry, pull: Puller, layers: list[list[Entry]], word: str
) -> None:
    registry.push("evil", layers, config=RUN)
    done = pull(f"{registry.host}/evil")
    assert (done.code, word in done.said) == (1, True), done.said


def test_a_link_that_leads_out_leads_to_the_same_place_inside(
    registry: RunningRegistry, pull: Puller, tmp_path: Path
) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    links = [Entry("abs", target=str(outside)), Entry("up", target="../../../../../../../../../../../tmp")]
    registry.push("links", [[*links, Entry("abs/a", "x"), Entry("up/tidemill-pulled", "x")]], config=RUN)
    done = pull(f"{registry.host}/links")
    assert done.code == 0, done.said
    assert not list(outside.iterdir())
    assert not Path("/tmp/tidemill-pulled").exists()
    assert done.root.joinpath(*outside.parts[1:], "a").read_text() == "x"
    assert (done.root / "tmp" / "tidemill-pulled").read_text() == "x"


def test_places_that_a_container_mounts_at_are_what_they_seem(registry: RunningRegistry, pull: Puller) -> None:
    entries = [
        Entry("proc", target="/etc"),
        Entry("etc"),
        Entry("etc/resolv.conf", target="../run/resolv"),
        Entry("tmp", "x"),
    ]
    registry.push("places", [entries], config=RUN)
    root = pull(f"{registry.host}/places").root
    assert all((root / name).is_dir() and not (root / name).is_symlink() for name in ("proc", "dev", "sys", "tmp"))
    assert (root / "etc" / "resolv.conf").is_file()
    assert not (root / "etc" / "resolv.conf").is_symlink()


def test_an_index_gives_the_image_of_this_machine(registry: RunningRegistry, pull: Puller) -> None:
    right = registry.push("many", [[Entry("a", "right")]], tag="right", config=RUN)
    wrong = registry.push("many", [[Entry("a", "wrong")]], tag="wrong", config=RUN)
    machine = {"x86_64": "amd64", "aarch64": "arm64"}[os.uname().machine]
    kind = "application/vnd.oci.image.manifest.v1+json"

    def listed(digest: str, architecture: str) -> dict[str, Any]:
        return {
            "mediaType": kind,
            "digest": digest,
            "size": 1,
            "platform": {"os": "linux", "architecture": architecture},
        }

    index = {"schemaVersion": 2, "mediaType": INDEX, "manifests": [listed(wrong, "s390x"), listed(right, machine)]}
    digest = registry.push_manifest("many", "all", INDEX, index)
    done = pull(f"{registry.host}/many:all")
    assert done.result["reference"].endswith(f"@{digest}")
    assert (done.root / "a").read_text() == "right"
    index["manifests"] = [listed(wrong, "s390x")]
    registry.push_manifest("many", "other", INDEX, index)
    assert "not for linux/" in Puller(pull.work)(f"{registry.host}/many:other").said


@pytest.mark.parametrize(
    ("image", "word"),
    [
        ("none:latest", "does not have it"),
        ("hello:none", "does not have it"),
        (f"hello@sha256:{'0' * 64}", "does not have it"),
    ],
)
def test_what_a_registry_does_not_have_is_said(registry: RunningRegistry, pull: Puller, image: str, word: str) -> None:
    registry.push("hello", [[Entry("a", "1")]], config=RUN)
    done = pull(f"{registry.host}/{image}")
    assert done.code == 1
    assert done.said.splitlines()[-1].startswith(
        f"error: image {registry.host}/{image}: registry {registry.host} {word}"
    )


def test_a_registry_that_is_not_there_is_said(pull: Puller) -> None:
    done = pull("127.0.0.1:1/hello:v1")
    assert (done.code, "cannot be reached" in done.said) == (1, True), done.said


def test_an_image_without_a_command_is_refused(registry: RunningRegistry, pull: Puller) -> None:
    registry.push("idle", [[Entry("a", "1")]], config={})
    done = pull(f"{registry.host}/idle")
    assert (done.code, "neither an entrypoint nor a command" in done.said) == (1, True), done.said


@pytest.mark.parametrize(
    ("credentials", "word"),
    [
        ("", "wants credentials"),
        ("reader:wrong", "does not take the credentials"),
        (f"nobody:{PASSWORD}", "does not take the credentials"),
    ],
)
def test_a_closed_registry_opens_to_its_credentials_alone(
    closed: RunningRegistry, pull: Puller, credentials: str, word: str
) -> None:
    closed.push("secret", [[Entry("a", "1")]], config=RUN)
    done = pull(f"{closed.host}/secret", credentials)
    assert (done.code, word in done.said) == (1, True), done.said
    assert pull(f"{closed.host}/secret", f"{USER}:{PASSWORD}").code == 0


@pytest.mark.parametrize(("limits", "word"), [({"max_unpacked_bytes": 10}, "bytes"), ({"max_entries": 1}, "entries")])
def test_an_image_over_the_limits_is_refused(
    registry: RunningRegistry, pull: Puller, limits: dict[str, int], word: str
) -> None:
    registry.push("big", [[Entry("a", "1" * 2000), Entry("b", "2")]], config=RUN)
    done = pull(f"{registry.host}/big", limits=limits)
    assert (done.code, word in done.said) == (1, True), done.said
