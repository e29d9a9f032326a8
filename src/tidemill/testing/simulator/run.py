"""Plays one seed: trouble first, then calm, in which everything must come to rest; the audit looks on."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from tidemill.testing.sim import Sim
from tidemill.testing.simulator.audit import Audit
from tidemill.testing.simulator.calm import calm
from tidemill.testing.simulator.faults import OVERTAKEN, REFUSED
from tidemill.testing.simulator.month import forget
from tidemill.testing.simulator.world import World

STEPS: Final = 110
LOOK_EVERY: Final = 15


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """What came of a seed. ``broken`` are the promises that were, empty when all is well.

    ``passed`` and ``deaths`` count points by name, ``faults`` strikes by kind. At the points ``exposed`` a server might
    have died: it does in the same seed with one of them as ``die_at``.
    """

    seed: int
    broken: Sequence[str]
    history: Sequence[str] = field(repr=False)
    passed: Counter[str]
    exposed: frozenset[str]
    deaths: Counter[str]
    faults: Counter[str]
    executions: int
    attempts: int
    triggers: bool

    def __str__(self) -> str:
        """For whoever has to find out why."""
        command = f"make simulate SEEDS=1 FIRST={self.seed}{' TRIGGERS=triggers' if self.triggers else ''}"
        lines = [f"seed {self.seed} breaks a promise; replay it with: {command}"]
        lines += [f"  {one}" for one in self.broken[:10]]
        lines += ["the last that happened:", *(f"  {one}" for one in self.history[-40:])]
        return "\n".join(lines)


class Simulator:
    """Plays seeds one after the other, in one directory."""

    def __init__(self, folder: Path) -> None:
        self._sim = Sim(folder)

    def close(self) -> None:
        self._sim.close()

    def run(self, seed: int, *, die_at: str = "", triggers: bool = False) -> Report:
        """Play ``seed``; it always goes the same way. A promise that is broken ends it.

        With ``die_at`` servers die at that point and nowhere else, with NOWHERE not at all. With ``triggers`` users
        give jobs triggers as well.
        """
        world = World(self._sim, seed, die_at, triggers=triggers)
        audit = Audit(world)
        broken: list[str] = []
        try:
            broken = _trouble(world, audit) or calm(world, audit) or forget(world)
        except Exception as error:  # noqa: BLE001 - the scheduler and the store raise nothing that has no name
            broken = [f"{type(error).__name__}: {error}"]
            world.say(_where(error))
        world.lose_server()
        counts = world.faults.counts + Counter({OVERTAKEN: world.overtaken, REFUSED: world.disk.refused})
        return Report(
            seed=seed,
            broken=broken,
            history=world.history,
            passed=world.points.passed,
            exposed=frozenset(world.points.exposed),
            deaths=world.points.deaths,
            faults=counts,
            executions=len(world.users.requests),
            attempts=len(world.plays),
            triggers=triggers,
        )


def _trouble(world: World, audit: Audit) -> list[str]:
    world.points.armed = True
    for number in range(STEPS):
        world.step()
        broken = audit.look() if number % LOOK_EVERY == LOOK_EVERY - 1 else audit.glance()
        if broken:
            return broken
    return []


def _where(error: Exception) -> str:
    """The last lines of our own code that ``error`` came through."""
    trace, found = error.__traceback__, list[str]()
    while trace is not None:
        code = trace.tb_frame.f_code
        if "tidemill" in code.co_filename:
            found.append(f"{Path(code.co_filename).name}:{trace.tb_lineno} {code.co_name}")
        trace = trace.tb_next
    return f"{type(error).__name__} came out of " + " > ".join(found[-8:])
