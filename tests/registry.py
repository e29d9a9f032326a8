"""A registry of images on loopback, Debian's docker-registry, and images that the tests make and push to it."""

import base64
import hashlib
import io
import json
import shutil
import socket
import subprocess
import tarfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

PROGRAM: Final = "docker-registry"
USER: Final = "reader"
PASSWORD: Final = "open sesame"
MANIFEST: Final = "application/vnd.oci.image.manifest.v1+json"
INDEX: Final = "application/vnd.oci.image.index.v1+json"
LAYER: Final = "application/vnd.oci.image.layer.v1.tar+gzip"

# bcrypt of PASSWORD
_HASH: Final = "$2b$04$abcdefghijklmnopqrstuu/LVz6MZlItEy42I2juLihZ66HnQx/cy"
_READY_S: Final = 20.0


def why_no_registry() -> str:
    """Why no test of a registry can run here; "" when it can."""
    return "" if shutil.which(PROGRAM) else "there is no docker-registry (Debian: apt install docker-registry)"


@dataclass(frozen=True, slots=True)
class Entry:
    """One of a layer: a file with ``text``, a link to ``target`` (symbolic, or ``hard``), or a directory."""

    name: str
    text: str | bytes | None = None
    target: str = ""
    hard: bool = False
    mode: int = 0o755


class RunningRegistry:
    """``host`` is its address. With a password it takes that of USER, and nobody else."""

    def __init__(self, host: str, *, has_password: bool) -> None:
        self.host = host
        self.has_password = has_password

    def push(
        self, name: str, layers: Sequence[Sequence[Entry] | Path], *, tag: str = "latest", config: Mapping[str, Any]
    ) -> str:
        """An image of these layers, the lowest first, folders or entries; its digest."""
        parts = [self._blob(name, _tar(layer)) for layer in layers]
        document = {"architecture": "amd64", "os": "linux", "config": dict(config), "rootfs": {"type": "layers"}}
        settings = self._blob(name, json.dumps(document).encode())
        manifest = {
            "schemaVersion": 2,
            "mediaType": MANIFEST,
            "config": {"mediaType": "application/vnd.oci.image.config.v1+json", **settings},
            "layers": [{"mediaType": LAYER, **part} for part in parts],
        }
        return self.push_manifest(name, tag, MANIFEST, manifest)

    def push_manifest(self, name: str, tag: str, kind: str, manifest: Mapping[str, Any]) -> str:
        data = json.dumps(manifest).encode()
        self._send("PUT", f"/v2/{name}/manifests/{tag}", data, kind)
        return f"sha256:{hashlib.sha256(data).hexdigest()}"

    def _blob(self, name: str, data: bytes) -> dict[str, Any]:
        digest = f"sha256:{hashlib.sha256(data).hexdigest()}"
        place = self._send("POST", f"/v2/{name}/blobs/uploads/", b"", "application/octet-stream")
        self._send("PUT", f"{place}&digest={digest}", data, "application/octet-stream")
        return {"digest": digest, "size": len(data)}

    def _send(self, method: str, where: str, data: bytes, kind: str) -> str:
        url = where if where.startswith("http") else f"http://{self.host}{where}"
        request = urllib.request.Request(url, data, {"Content-Type": kind}, method=method)
        if self.has_password:
            request.add_header("Authorization", f"Basic {basic(USER, PASSWORD)}")
        with urllib.request.urlopen(request, timeout=20) as answer:
            return str(answer.headers.get("Location", ""))


def basic(user: str, password: str) -> str:
    """``user:password`` as HTTP and Docker write it."""
    return base64.b64encode(f"{user}:{password}".encode()).decode()


def docker_config(host: str, user: str = USER, password: str = PASSWORD) -> str:
    """What the official command line sends as ``dockerConfig``."""
    return json.dumps({"auths": {host: {"auth": basic(user, password)}}})


@contextmanager
def running_registry(folder: Path, *, has_password: bool = False) -> Iterator[RunningRegistry]:
    """One on a free port, which keeps its images below ``folder`` and ends with the block."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    config: dict[str, Any] = {
        "version": "0.1",
        "log": {"level": "error", "accesslog": {"disabled": True}},
        "storage": {"filesystem": {"rootdirectory": str(folder / "images")}},
        "http": {"addr": f"127.0.0.1:{port}"},
    }
    if has_password:
        (folder / "htpasswd").write_text(f"{USER}:{_HASH}\n")
        config["auth"] = {"htpasswd": {"realm": "test", "path": str(folder / "htpasswd")}}
    # YAML reads JSON
    (folder / "config.yml").write_text(json.dumps(config))
    program = shutil.which(PROGRAM)
    assert program is not None
    with (folder / "output").open("wb") as output:
        process = subprocess.Popen([program, "serve", str(folder / "config.yml")], stdout=output, stderr=output)
    try:
        _wait(port, process, folder / "output")
        yield RunningRegistry(f"127.0.0.1:{port}", has_password=has_password)
    finally:
        process.kill()
        process.wait()


def _wait(port: int, process: "subprocess.Popen[bytes]", output: Path) -> None:
    deadline = time.monotonic() + _READY_S
    while True:
        assert process.poll() is None, output.read_text()
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/v2/", timeout=5):
                return
        except urllib.error.HTTPError:
            return
        except OSError:
            assert time.monotonic() < deadline, output.read_text()
            time.sleep(0.02)


def _tar(layer: Sequence[Entry] | Path) -> bytes:
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode="w:gz", compresslevel=1) as tar:
        if isinstance(layer, Path):
            tar.add(layer, ".")
            return _closed(tar, data)
        for entry in layer:
            info = tarfile.TarInfo(entry.name)
            info.mode = entry.mode
            if entry.target:
                info.type, info.linkname = tarfile.LNKTYPE if entry.hard else tarfile.SYMTYPE, entry.target
                tar.addfile(info)
            elif entry.text is None:
                info.type = tarfile.DIRTYPE
                tar.addfile(info)
            else:
                content = entry.text if isinstance(entry.text, bytes) else entry.text.encode()
                info.size = len(content)
                tar.addfile(info, io.BytesIO(content))
        return _closed(tar, data)


def _closed(tar: tarfile.TarFile, data: io.BytesIO) -> bytes:
    tar.close()
    return data.getvalue()
