"""The images a node has unpacked, and getting those it has not."""

import hashlib
import logging
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Final

from tidemill.model.lease import BlobRef
from tidemill.node.build.archive import PARTIAL_PREFIX, ArchiveError, ImageManifest, read_image, unpack_image
from tidemill.node.environment import file_path
from tidemill.node.worker import Worker

Ready = Callable[[ImageManifest | str], None]
"""Called in the loop with the manifest, or with the reason why the image could not be got."""

_HASH_BYTES: Final = 1 << 20

log = logging.getLogger(__name__)


class Images:
    """Each image is fetched and unpacked once, however many attempts wait for it."""

    def __init__(self, folder: Path, worker: Worker) -> None:
        """``folder`` is ``DIR/images``; what an interrupted unpacking left there is removed."""
        self._folder = folder
        self._worker = worker
        self._manifests: dict[str, ImageManifest] = {}
        self._waiting: dict[str, list[Ready]] = {}
        # one directory per digest: whoever does not know a digest cannot find it
        folder.mkdir(mode=0o711, parents=True, exist_ok=True)
        folder.chmod(0o711)
        self._look()

    def held(self) -> frozenset[str]:
        """Digests of the images that a task can start from at once."""
        return frozenset(self._manifests)

    def path(self, digest: str) -> Path:
        return self._folder / digest

    def find(self, digest: str) -> ImageManifest | None:
        return self._manifests.get(digest)

    def prepare(self, blob: BlobRef, ready: Ready) -> None:
        """Get the image that is not held yet, then call ``ready``."""
        waiting = self._waiting.setdefault(blob.digest, [])
        waiting.append(ready)
        if len(waiting) == 1:
            self._worker.submit(lambda: self._fetch(blob), lambda result: self._fetched(blob.digest, result))

    def _fetch(self, blob: BlobRef) -> ImageManifest:
        target = self.path(blob.digest)
        if not target.exists():
            archive = file_path(blob.url)
            check_digest(archive, blob.digest)
            unpack_image(archive, target)
        return read_image(target)

    def _fetched(self, digest: str, result: ImageManifest | Exception) -> None:
        waiting = self._waiting.pop(digest)
        if isinstance(result, ImageManifest):
            self._manifests[digest] = result
            answer: ImageManifest | str = result
        else:
            log.warning("image %s could not be fetched: %s", digest, result)
            answer = f"image {digest} could not be fetched: {result}"
        for ready in waiting:
            ready(answer)

    def _look(self) -> None:
        for entry in os.scandir(self._folder):
            if entry.name.startswith(PARTIAL_PREFIX):
                shutil.rmtree(entry.path, ignore_errors=True)
                continue
            try:
                self._manifests[entry.name] = read_image(Path(entry.path))
            except (ArchiveError, OSError) as error:
                log.warning("image %s is damaged and is removed: %s", entry.name, error)
                shutil.rmtree(entry.path, ignore_errors=True)


def check_digest(file: Path, digest: str) -> None:
    """Raises ValueError when the sha256 of ``file`` is not ``digest``, OSError when it cannot be read."""
    found = hashlib.sha256()
    with file.open("rb") as content:
        while block := content.read(_HASH_BYTES):
            found.update(block)
    if found.hexdigest() != digest:
        raise ValueError(f"{file.name} has the digest {found.hexdigest()}, not {digest}")
