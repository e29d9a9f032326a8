"""What `tidemill doctor` says of limits: what the kernel bounds for tasks, what it does not, and how to get it."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tidemill.node.limits.facts import LimitFacts
from tidemill.node.limits.groups import Control, Kill
from tidemill.node.limits.look import look, of_node
from tidemill.node.limits.probe import turned_off

_MEANS: Final[Mapping[Control, str]] = {
    Control.MEMORY: "the memory of a task is limited, and its kills are counted",
    Control.PIDS: "processes and threads of a task are limited",
    Control.CPU: "CPU is shared by the memory of tasks",
}
_INSTEAD: Final[Mapping[Control, str]] = {
    Control.MEMORY: "the node looks at the memory of tasks now and then",
    Control.PIDS: "a task may start as many processes as its user may",
    Control.CPU: "all tasks share CPU alike",
}
_KILLS: Final[Mapping[Kill, str]] = {
    Kill.AT_ONCE: "the kernel kills all of a task at once",
    Kill.FORKLESS: "what is killed cannot fork any more",
    Kill.LISTED: "processes are killed one by one",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Bound:
    """One limit as doctor shows it. ``remedy`` is how to get it, empty where it is active."""

    name: str
    active: bool
    says: str
    remedy: str


def bounds(node_folder: Path, *, node_runs: bool, limits: str) -> list[Bound]:
    """What the node that runs has found, for it may be in another place of the machine; else what one would find here.

    ``node_folder`` is ``node/`` of the data directory, ``limits`` the setting ``task_limits``.
    """
    facts = of_node(node_folder) if node_runs else None
    if facts is None:
        facts = turned_off().facts if limits == "none" else look()
    return [*_bounds(facts)]


def _bounds(facts: LimitFacts) -> Iterator[Bound]:
    for control in Control:
        if control in facts.active:
            says = f"{_MEANS[control]} ({facts.active[control]})"
            yield Bound(name=control, active=True, says=says, remedy="")
        else:
            why = facts.missing[control]
            says = f"{_INSTEAD[control]}: {why.reason}"
            yield Bound(name=control, active=False, says=says, remedy=why.remedy)
    if facts.kill is not None:
        yield Bound(name="kill", active=True, says=_KILLS[facts.kill], remedy="")
