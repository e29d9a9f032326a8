"""What a request does to how executions are given to revisions: a merge by member."""

from dataclasses import dataclass
from typing import Final

from tidemill.model.canary import Rollout
from tidemill.service.wishes import UNSET, Wish, chosen

_DEFAULT: Final = Rollout()


@dataclass(frozen=True, slots=True, kw_only=True)
class RolloutChange:
    """What a request says about ``spec.revision``, but for ``active``; numbers are in their ranges already."""

    canary: Wish[str] = UNSET
    canary_percent: Wish[int] = UNSET
    sticky_ttl_s: Wish[int] = UNSET
    traffic: Wish[int] = UNSET

    @property
    def named(self) -> str:
        """The canary that the request asks for, empty for no such wish."""
        return self.canary if isinstance(self.canary, str) else ""


NO_CHANGE: Final = RolloutChange()
TO_DEFAULT: Final = RolloutChange(canary=None, canary_percent=None, sticky_ttl_s=None, traffic=None)


def merged(kept: Rollout, change: RolloutChange) -> Rollout:
    """``kept`` with the change. A canary that is taken away takes its percentage along: the next one begins at 0."""
    percent = 0 if change.canary is None else kept.canary_percent
    return Rollout(
        canary=chosen(change.canary, kept.canary, ""),
        canary_percent=chosen(change.canary_percent, percent, 0),
        sticky_ttl_s=chosen(change.sticky_ttl_s, kept.sticky_ttl_s, 0),
        traffic=chosen(change.traffic, kept.traffic, _DEFAULT.traffic),
    )
