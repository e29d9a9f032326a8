"""Regions: where the tasks of a job may run. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

# what jobs of the hosted service name: accepted where no regions are configured, so that they move here unchanged
HOSTED: Final = ("auto", "local", "eu-fra-1", "eu-lon-1", "us-pdx-1", "us-was-1")


@dataclass(frozen=True, slots=True, kw_only=True)
class Regions:
    """What a server calls its regions. No ``names``: all its nodes are one region, whatever a job calls that."""

    names: tuple[str, ...] = ()
    default: str = "local"

    @property
    def accepted(self) -> tuple[str, ...]:
        """What ``spec.region`` of a job may be, in order of their names."""
        return tuple(sorted({*(self.names or HOSTED), self.default}))

    def placed(self, region: str) -> str:
        """The region whose nodes run the tasks of a job that says ``region``; empty: any node.

        A name that is configured no longer is the default one: a change of the settings strands no job.
        """
        if not self.names:
            return ""
        return region if region in self.names else self.default


def biggest_in(nodes: Mapping[str, int], region: str) -> int | None:
    """Of the biggest node of each region (MB) that of ``region``, or of all for an empty one; None when none is known.

    A region without a node has no limit yet.
    """
    return nodes.get(region) if region else max(nodes.values(), default=None)
