"""What a machine says of limits: what the kernel bounds for tasks, what it does not, and how to get it."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final

from tidemill.model.protections import MEANS, Protection, Stated
from tidemill.node.limits.facts import LimitFacts
from tidemill.node.limits.groups import Control, Kill
from tidemill.node.limits.look import look, of_node
from tidemill.node.limits.probe import turned_off

_INSTEAD: Final[Mapping[Control, str]] = {
    Control.MEMORY: "the node looks at the memory of tasks now and then",
    Control.PIDS: "a task may start as many processes as its user may",
    Control.CPU: "all tasks share CPU alike",
}
_KILLS: Final[Mapping[Kill, str]] = {
    Kill.AT_ONCE: "the kernel kills all of a task at once",
    Kill.FORKLESS: "what is killed cannot fork any more",
    Kill.LISTED: "processes are stopped and killed one by one, until none is left",
}
OWN_PROCESSES: Final = "the kernel kills all that is in a task's own list of processes with the first of them"


def bounds(node_folder: Path, *, node_runs: bool, limits: str, own_processes: bool = False) -> tuple[Stated, ...]:
    """What the node that runs has found, for it may be in another place of the machine; else what one would find here.

    ``node_folder`` is ``node/`` of the data directory, ``limits`` the setting ``task_limits``; ``own_processes``: see
    ``state``.
    """
    facts = of_node(node_folder) if node_runs else None
    if facts is None:
        facts = turned_off().facts if limits == "none" else look()
    return state(facts, own_processes=own_processes)


def state(facts: LimitFacts, *, own_processes: bool) -> tuple[Stated, ...]:
    """What was found, a line each. ``own_processes``: each task has a list of processes of its own that ends as one."""
    return (*_bounded(facts), _killed(facts, own_processes=own_processes))


def _bounded(facts: LimitFacts) -> Iterator[Stated]:
    for control in Control:
        name = Protection(control)
        if control in facts.active:
            yield Stated(name=name, active=True, says=f"{MEANS[name]} ({facts.active[control]})")
        else:
            why = facts.missing[control]
            says = f"{_INSTEAD[control]}: {why.reason}"
            yield Stated(name=name, active=False, says=says, remedy=why.remedy)


def _killed(facts: LimitFacts, *, own_processes: bool) -> Stated:
    if facts.kill is not None and facts.kill > Kill.LISTED:
        return Stated(name=Protection.KILL, active=True, says=_KILLS[facts.kill])
    if own_processes:
        return Stated(name=Protection.KILL, active=True, says=OWN_PROCESSES)
    # forks are refused by the same controller
    why = facts.missing[Control.PIDS]
    return Stated(name=Protection.KILL, active=False, says=f"{_KILLS[Kill.LISTED]}: {why.reason}", remedy=why.remedy)
