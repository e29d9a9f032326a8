"""Where the attempts of a node find what is theirs, and what the operator lets all of them read and write."""

import os
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from tidemill.node.isolation import reach


@dataclass(frozen=True, kw_only=True)
class Ground:
    """``programs`` are folders of the interpreter and of what builds run; ``read``, ``write`` are the operator's."""

    data_dir: Path
    programs: tuple[Path, ...] = ()
    read: tuple[Path, ...] = ()
    write: tuple[Path, ...] = ()

    def closed(self) -> tuple[Path, Path] | None:
        """Something that attempts have to reach, and the directory through which not every user gets there."""
        for folder in (self.data_dir, *self.programs):
            if (closed := reach.closed_above(folder / "anything")) is not None:
                return folder, closed
        for path in (*self.read, *self.write):
            if (closed := reach.closed_above(path)) is not None:
                return path, closed
        return None

    def way_to(self, paths: Iterable[Path]) -> tuple[Path, ...]:
        """What users of their own reach only if it is shown to them, of ``paths`` and of what all attempts may use.

        Empty where nothing stands in their way.
        """
        if not self._is_closed:
            return ()
        # the data directory as one: between two of its folders files are linked. All of them, reachable or not: a
        # directory that is covered for one would hide the others
        wanted = (*paths, *self.read, *self.write)
        # paths as texts: each start of a command waits for this
        home = f"{self.data_dir}/"
        beside = (path for path in wanted if path != self.data_dir and not str(path).startswith(home))
        return tuple(path for path in (self.data_dir, *beside) if os.path.exists(path))  # noqa: PTH110  # see above

    @cached_property
    def _is_closed(self) -> bool:
        return self.closed() is not None
