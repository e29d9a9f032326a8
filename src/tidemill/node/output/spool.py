"""Blocks of output on disk, numbered, until a server has acknowledged them: ``DIR/node/logs/``."""

import json
import logging
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

from tidemill.model.lease import LogBlock

_SUFFIX: Final = ".block"
_PARTIAL: Final = ".partial"

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class BlockHeader:
    """What a block says of itself; the fields are those of LogBlock."""

    log_key: int
    kind: str
    owner: int
    first_index: int
    last_index: int
    first_at: float
    last_at: float
    lines: Mapping[str, int]
    cut: bool


@dataclass(frozen=True, slots=True)
class _Waiting:
    file: Path
    size_bytes: int


class Spool:
    """A file a block: a line of JSON, then the data. Its name orders blocks; less the suffix it is the block's id."""

    def __init__(self, folder: Path, incarnation: str, max_bytes: int) -> None:
        """What earlier incarnations left in ``folder`` comes first, numbered from 1 again; its block ids stay."""
        self._folder = folder
        self._incarnation = incarnation
        self._max_bytes = max_bytes
        self._waiting: OrderedDict[int, _Waiting] = OrderedDict()
        self._size_bytes = 0
        self._head = 0
        self._cut: set[tuple[str, int]] = set()
        self.on_put: Callable[[], None] = lambda: None
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._generation = self._look()

    @property
    def head(self) -> int:
        """The highest number of a block that waits; 0 when none does."""
        return self._head if self._waiting else 0

    def put(self, header: BlockHeader, data: bytes) -> None:
        """Keep a block, or drop it when the spool or the disk is full: then the owner's next block is marked cut."""
        owner = (header.kind, header.owner)
        document = {**asdict(header), "cut": header.cut or owner in self._cut}
        content = json.dumps(document).encode() + b"\n" + data
        if self._size_bytes + len(content) > self._max_bytes:
            self._cut.add(owner)
            return
        number = self._head + 1
        file = self._folder / f"{self._generation:06}-{self._incarnation}-{number:09}{_SUFFIX}"
        try:
            _write(file, content)
        except OSError as error:
            if not self._cut:
                log.error("output is dropped: %s", error)  # noqa: TRY400  # the place is known, the reason is enough
            self._cut.add(owner)
            return
        self._cut.discard(owner)
        self._head = number
        self._add(number, file, len(content))
        self.on_put()

    def read(self, after: int, max_bytes: int) -> list[LogBlock]:
        """Blocks numbered above ``after``, in order: at least one if any waits, then as many as fit ``max_bytes``."""
        blocks: list[LogBlock] = []
        room = max_bytes
        for number, waiting in self._waiting.items():
            if number <= after:
                continue
            room -= waiting.size_bytes
            if blocks and room < 0:
                break
            blocks.append(_load(number, waiting.file))
        return blocks

    def acknowledge(self, number: int) -> None:
        """Forget all blocks up to ``number``."""
        while self._waiting:
            first = next(iter(self._waiting))
            if first > number:
                break
            waiting = self._waiting.pop(first)
            self._size_bytes -= waiting.size_bytes
            waiting.file.unlink(missing_ok=True)

    def _add(self, number: int, file: Path, size_bytes: int) -> None:
        self._waiting[number] = _Waiting(file, size_bytes)
        self._size_bytes += size_bytes

    def _look(self) -> int:
        """Find what waits; returns a generation above all that are found, so that names stay in order."""
        generation = 0
        for file in sorted(self._folder.iterdir()):
            if file.suffix != _SUFFIX:
                file.unlink(missing_ok=True)
                continue
            self._head += 1
            self._add(self._head, file, file.stat().st_size)
            generation = max(generation, int(file.name.split("-", 1)[0]))
        return generation + 1


def _write(file: Path, content: bytes) -> None:
    partial = file.with_suffix(_PARTIAL)
    try:
        # not fsynced: after a crash of the machine output of its last seconds may be missing, as anywhere
        partial.write_bytes(content)
        partial.rename(file)
    except OSError:
        partial.unlink(missing_ok=True)
        raise


def _load(number: int, file: Path) -> LogBlock:
    header, _, data = file.read_bytes().partition(b"\n")
    return LogBlock(number=number, block_id=file.name.removesuffix(_SUFFIX), data=data, **json.loads(header))
