"""Moving what was committed from the write-ahead log into the database, beside the writer.

Left to itself SQLite does so within whichever COMMIT finds a thousand pages in the log, and that one's caller waits for
it: two more syncs and all the pages (docs/decisions/0115-checkpoints-are-made-beside-the-writer.md).
"""

import sqlite3
import threading
from contextlib import closing, suppress
from pathlib import Path
from typing import Final

from tidemill.store.readers import BUSY_MS

STEP_BYTES: Final = 4 << 20
"""How much the log grows between two checkpoints."""
WRITER_PAGES: Final = 8_000
"""From so many pages of the log on it is the writer's, in its COMMIT, who alone can finish it: 32 MB."""
_WRITER_BYTES: Final = WRITER_PAGES * 4096


class Checkpoints:
    """For the writer's thread: ``after_commit`` costs one look at a file."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._log = path.with_name(f"{path.name}-wal")
        self._seen_bytes = 0
        self._running: threading.Thread | None = None

    def after_commit(self) -> None:
        """Begin a checkpoint when the log has grown enough and none is being made."""
        try:
            size = self._log.stat().st_size
        except FileNotFoundError:
            return
        # it is less when the log was begun anew
        self._seen_bytes = min(self._seen_bytes, size)
        # two cannot be made at once, and one beside the writer ends behind what is written meanwhile
        if size - self._seen_bytes < STEP_BYTES or size >= _WRITER_BYTES or self._is_running():
            return
        self._seen_bytes = size
        self._running = threading.Thread(target=self._make, name="tidemill-checkpoint", daemon=True)
        self._running.start()

    def _is_running(self) -> bool:
        return self._running is not None and self._running.is_alive()

    def close(self) -> None:
        """Wait for one that is being made."""
        if self._running is not None:
            self._running.join()

    def _make(self) -> None:
        # what it cannot do now stays in the log, where it is as safe; the writer meets the same disk, and tells of it
        with suppress(sqlite3.Error), closing(sqlite3.connect(self._path, isolation_level=None)) as connection:
            connection.execute(f"PRAGMA busy_timeout={BUSY_MS}")
            connection.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchall()
