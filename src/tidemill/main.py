"""The entry point. A command is named as a "module:function" string, so that none loads another's imports."""

import difflib
import os
import sys
from collections.abc import Sequence
from importlib.metadata import version
from typing import Final

from cyclopts import App, CycloptsError, Group, UnknownCommandError

from tidemill.cli.exits import CLOSED_PIPE, INTERRUPTED, USAGE, CommandError, usage

_WORK: Final = Group("Jobs", sort_key=1)
_ACCESS: Final = Group("Access", sort_key=2)
_MACHINE: Final = Group("This machine", sort_key=3)

# the sentence is here as well, so that the list of commands needs none of them
_COMMANDS: Final = (
    ("deploy", "tidemill.cli.deploy:command", _WORK, "Deploy a folder as a job."),
    ("run", "tidemill.cli.run:app", _WORK, "Run a job over its inputs."),
    ("rerun", "tidemill.cli.rerun:command", _WORK, "Run failed tasks of an execution again."),
    ("fire", "tidemill.cli.triggers:command", _WORK, "Start an execution of a trigger now."),
    ("get", "tidemill.cli.get:command", _WORK, "Show jobs, executions, tasks, triggers or workspaces."),
    ("why", "tidemill.cli.why:command", _WORK, "Say why an execution or a task waits, or why it failed."),
    ("logs", "tidemill.cli.logs:app", _WORK, "Show what tasks have printed."),
    ("results", "tidemill.cli.results:command", _WORK, "Print the results of an execution."),
    ("cancel", "tidemill.cli.cancel:command", _WORK, "Cancel an execution."),
    ("delete", "tidemill.cli.delete:app", _WORK, "Delete a job."),
    ("login", "tidemill.cli.login:command", _ACCESS, "Log in to a server, and keep that."),
    ("logout", "tidemill.cli.logout:command", _ACCESS, "End a login."),
    ("token", "tidemill.cli.token:command", _ACCESS, "Print what requests are sent with."),
    ("workspaces", "tidemill.cli.workspaces:command", _ACCESS, "Show logins, or use another one."),
    ("reset-password", "tidemill.cli.reset_password:command", _ACCESS, "Let somebody set a password anew."),
    ("keys", "tidemill.cli.keys:app", _MACHINE, "Show, rotate or end the keys of the server's secrets and tokens."),
    ("server", "tidemill.server:command", _MACHINE, "Serve the API and run the scheduler."),
    ("node", "tidemill.node.process:command", _MACHINE, "Run the tasks of this machine; the server starts it."),
    ("stop", "tidemill.engine.stop:command", _MACHINE, "End the server and the node of a data directory."),
    ("doctor", "tidemill.doctor:command", _MACHINE, "Say what works on this machine."),
)


def build(asked: str = "") -> App:
    """The command line with every command named and none loaded; the one asked for describes itself at length."""
    app = App(
        name="tidemill",
        help="Run many tasks in parallel, lose none of them.",
        version=lambda: version("tidemill"),
        suppress_keyboard_interrupt=False,
        result_action="return_value",
    )
    for name, path, group, sentence in _COMMANDS:
        app.command(path, name=name, group=group, help=None if name == asked else sentence)
    return app


def run(words: Sequence[str]) -> int:
    """Run one command line and return its exit code: 0 success, 1 it failed, 2 usage, 130 Ctrl-C."""
    try:
        _check_name(words)
        result = build(words[0] if words else "")(list(words), exit_on_error=False, print_error=False)
    except CommandError as error:
        _say(error)
        return error.code
    except CycloptsError as error:
        known = words[:1] if isinstance(error, UnknownCommandError) else _path(words)
        _say(usage(" ".join(str(error).split()), f"tidemill {' '.join(known)} --help says what there is"))
        return USAGE
    except KeyboardInterrupt:
        return INTERRUPTED
    except BrokenPipeError:
        # the interpreter flushes stdout once more when it ends
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return CLOSED_PIPE
    return result if isinstance(result, int) else 0


def main() -> None:
    """The `tidemill` command."""
    sys.exit(run(sys.argv[1:]))


def _check_name(words: Sequence[str]) -> None:
    """Refuse a command that does not exist. cyclopts would load every command to find the one that was meant."""
    names = [name for name, *_ in _COMMANDS]
    if words and not words[0].startswith("-") and words[0] not in names:
        near = difflib.get_close_matches(words[0], names, n=1)
        meant = f"did you mean {near[0]}?" if near else f"there are {', '.join(sorted(names))}"
        raise usage(f"no command {words[0]!r}; {meant}")


def _path(words: Sequence[str]) -> Sequence[str]:
    """The command among the words: one of them, or two where the commands of the first are named by their object."""
    return words[: 2 if words[0] in {"run", "logs", "delete"} else 1]


def _say(error: CommandError) -> None:
    if error.message:
        sys.stderr.write(f"error: {error.message}\n")
    for line in error.advice:
        sys.stderr.write(f"  {line}\n")


if __name__ == "__main__":
    main()
