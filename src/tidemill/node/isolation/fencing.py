"""Whether the attempts of a node are kept from the addresses that its settings forbid, and if not, why."""

import logging
import os
from dataclasses import dataclass
from typing import Final

from tidemill.node.isolation import uids
from tidemill.node.isolation.fence import Fence, clear_fences, raise_fence
from tidemill.node.isolation.opening import Found
from tidemill.node.isolation.users import Users
from tidemill.node.settings import NodeSettings

NO_USERS: Final = "tasks have no users of their own"
NOT_ASKED: Final = "task_forbidden_addresses is empty"
WORD: Final = "forbidden_addresses"

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Fencing:
    """``problem`` is why there is no fence, "" where one stands, or would."""

    problem: str = ""
    fence: Fence | None = None

    @property
    def capabilities(self) -> frozenset[str]:
        """A word for NodeInfo."""
        return frozenset() if self.problem else frozenset({WORD})

    def close(self) -> None:
        """At the end of a node."""
        if self.fence is not None:
            self.fence.close()


def open_fence(settings: NodeSettings, users: Users) -> Fencing:
    """Keep all that ``users`` may be from the addresses that the settings forbid; where that cannot be, it is logged.

    Also removes what nodes that were killed have left of theirs. Takes some ten milliseconds.
    """
    pool = users.pool
    if pool is None:
        return Fencing(problem=NO_USERS)
    clear_fences(lambda block: block == pool.block or uids.is_free(block))
    if not settings.task_forbidden_addresses:
        return Fencing(problem=NOT_ASKED)
    try:
        numbers = range(0) if users.numbers is None else users.numbers.all
        return Fencing(fence=raise_fence(str(pool.block), pool.all, settings.task_forbidden_addresses, numbers))
    except OSError as error:
        log.warning("tasks reach the addresses that they are forbidden: %s", error.strerror)
        return Fencing(problem=error.strerror or str(error))


def try_fence(found: Found) -> Fencing:
    """What a node would say, found out with one user and an address that nobody uses; nothing is left of it."""
    settings = found.machine.settings
    if not found.has_users:
        return Fencing(problem=NO_USERS)
    if not settings.task_forbidden_addresses:
        return Fencing(problem=NOT_ASKED)
    try:
        raise_fence(f"look_{os.getpid()}", [settings.task_uid_first], ()).close()
    except OSError as error:
        return Fencing(problem=error.strerror or str(error))
    return Fencing()
