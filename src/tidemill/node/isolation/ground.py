"""Where the attempts of a node find what is theirs, and what the operator lets all of them read and write."""

from dataclasses import dataclass
from pathlib import Path

from tidemill.node.isolation import reach


@dataclass(frozen=True, slots=True, kw_only=True)
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
