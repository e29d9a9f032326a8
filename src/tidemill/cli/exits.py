"""How a command ends when it does not end well. No imports: the entry point reads this before it knows the command."""

from typing import Final

FAILED: Final = 1
"""The run or the request failed."""
USAGE: Final = 2
"""The command line, a file it names or a setting it needs makes no sense."""
INTERRUPTED: Final = 130
"""Ctrl-C, as shells report it."""
CLOSED_PIPE: Final = 141
"""Who read our output has gone (`| head`), as shells report it."""


class CommandError(Exception):
    """Ends a command with `code` after one line on stderr; `advice` lines follow it and say what can be typed now.

    Raised with an empty message where the command has already said everything.
    """

    def __init__(self, message: str = "", *, code: int = FAILED, advice: tuple[str, ...] = ()) -> None:
        super().__init__(message)
        self.message = message
        self.code = code
        self.advice = advice


def usage(message: str, *advice: str) -> CommandError:
    """What to raise when the user must type or write something else."""
    return CommandError(message, code=USAGE, advice=advice)
