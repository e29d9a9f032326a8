"""One simulated world: a store, nodes, servers that come and go, users, and the dice that decide what happens next."""

import json
import random
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from datetime import timedelta
from typing import Final

from sqlalchemy import Connection, func, select

from tidemill.engine.fake import FakeEngine, Play
from tidemill.model.errors import OutOfSpace
from tidemill.model.ids import AttemptId, NodeId, OwnerKind
from tidemill.model.image import incoming_blob
from tidemill.model.lease import Lease, OutcomeKind
from tidemill.store import schema
from tidemill.testing.sim import NODE, Sim
from tidemill.testing.simulator.faults import Disk, Faults, Wall
from tidemill.testing.simulator.points import OF_TRIGGERS, Died, Life, Points
from tidemill.testing.simulator.server import Ground, Server
from tidemill.testing.simulator.users import Users

DEATH_RATE: Final = 0.06
TTL_S: Final = 20.0
_WORKSPACES: Final = ("acme", "beta")
_ENDS: Final = (
    *[OutcomeKind.SUCCEEDED] * 5,
    OutcomeKind.EXIT_CODE,
    OutcomeKind.SIGNAL,
    OutcomeKind.OUT_OF_MEMORY,
    OutcomeKind.LAUNCH_ERROR,
)


class World:
    """What a seed makes. ``step`` lets one thing happen; ``history`` tells what happened, the same for every replay."""

    def __init__(self, sim: Sim, seed: int, die_at: str = "", *, triggers: bool = False) -> None:
        """A new world in the store of ``sim``, which is emptied. With ``die_at`` servers die at that point only.

        Jobs have triggers when asked for, and where servers die over them.
        """
        self.has_triggers = triggers or die_at.rpartition(" ")[2] in OF_TRIGGERS
        self.dice = random.Random(seed)  # noqa: S311 - dice that fall the same way each time
        self.sim = sim
        self.history: list[str] = []
        self.plays: dict[AttemptId, Play] = {}
        self.troubled = True
        sim.reset()
        self.wall = Wall(sim.clock)
        self.disk = Disk(self.dice, sim.clock)
        ttl_s = self.dice.choice([None, TTL_S, TTL_S])
        sim.infos = [
            replace(
                NODE,
                id=NodeId(f"n{number}"),
                incarnation=f"n{number}-1",
                slots=self.dice.choice([1, 2, 4]),
                lease_ttl_s=ttl_s,
            )
            for number in range(1, self.dice.choice([1, 2, 3]) + 1)
        ]
        # a node that has leases without end is on the server's machine
        self.node_clock = sim.clock.seconds if ttl_s else self._wall_seconds
        sim.engine = FakeEngine(sim.infos, self._play, clock=self.node_clock, steady=sim.clock.seconds)
        self.faults = Faults(self.dice, sim.engine, self.wall, self.disk, ttl_s)
        self.points = Points(self.dice, DEATH_RATE, die_at)
        self.users = Users(self.dice, _WORKSPACES, self.wall.now, triggers=self.has_triggers)
        sim.database.write(self.users.settle_in)
        self.server: Server | None = None
        self.overtaken = 0
        self._nested = False

    def _wall_seconds(self) -> float:
        return self.wall.now().timestamp()

    def say(self, text: str) -> None:
        self.history.append(f"{self.sim.clock.seconds() - 1_780_000_000:.3f} {text}")

    def step(self) -> None:
        """One thing happens."""
        steps: list[tuple[int, Callable[[], str]]] = [
            (20, self._users_act),
            (16, self._listen),
            (14, self._settle),
            (18, self._tick),
            (9, self._collect),
            (1, self._retain),
            (16, self._time_passes),
            (10, self.faults.strike),
        ]
        if self.has_triggers:
            steps += [(14, self._fire), (6, self._a_minute_passes)]
        ((_, step),) = self.dice.choices(steps, weights=[weight for weight, _ in steps])
        try:
            self.say(step())
        except Died as death:
            self.say(f"the server died {death}")
            self.lose_server()

    def alive(self) -> Server:
        """The server; a new one when the last has died. Raises Died when that one dies too, or finds no room."""
        if self.server is None:
            try:
                self.server = self._start()
            except OutOfSpace:
                raise Died("for want of room") from None
        return self.server

    def lose_server(self) -> None:
        """Nothing of the server is left but what it wrote down."""
        if self.server is not None:
            self.server.life.dead = True
            self.server.bury()
            self.server = None

    def nodes_of(self, server: Server) -> list[NodeId]:
        """The nodes that the server listens to."""
        return list(server.ticker.nodes)

    def _start(self) -> Server:
        sim = self.sim
        ground = Ground(
            database=sim.database,
            engine=sim.engine,
            blobs=sim.blobs,
            folder=sim.folder,
            keyring=sim.keyring,
            policy=sim.policy,
            wall=self.wall.now,
            steady=sim.clock.seconds,
            keys=self.users.key,
            dice=self.dice,
        )
        server = Server(ground, Life(self.points, self._meanwhile, self.disk.full))
        self.say(f"a server has the term {server.ticker.term}")
        return server

    def _users_act(self) -> str:
        return self.users.act(self.alive())

    def _listen(self) -> str:
        server = self.alive()
        nodes = self.nodes_of(server)
        if not nodes:
            return "no node to listen to"
        node = self.dice.choice(nodes)
        return f"listened to {node}: {server.listen(node)}"

    def _settle(self) -> str:
        return f"settled: {self.alive().settle()}"

    def _tick(self) -> str:
        return f"ticked: {self.alive().tick() is not None}"

    def _fire(self) -> str:
        return f"fired: {self.alive().fire()}"

    def _a_minute_passes(self) -> str:
        """Up to where triggers are due."""
        self.sim.clock.move(60.0 - self.wall.now().second)
        self.faults.heal()
        return "the minute passes"

    def _collect(self) -> str:
        return f"collected: {self.alive().collect()}"

    def _retain(self) -> str:
        return f"swept: {self.alive().retain()}"

    def _time_passes(self) -> str:
        seconds = self.dice.choice([0.1, 0.5, 1.0, 1.0, 2.0, 5.0, 15.0, 31.0])
        self.sim.clock.move(seconds)
        self.faults.heal()
        return f"{seconds:g} s pass"

    def _meanwhile(self) -> None:
        """What happens between two steps of a server: something else, or another server takes over."""
        if self._nested or not self.troubled:
            return
        luck = self.dice.random()
        if luck < 0.03:
            self._nested = True
            try:
                self.say("meanwhile")
                self.dice.choice([self._another_user, self._another_fault, self._a_moment])()
            finally:
                self._nested = False
        elif luck < 0.04:
            self._nested = True
            try:
                self._overtake()
            finally:
                self._nested = False

    def _another_user(self) -> None:
        if self.server is not None:
            self.say(self.users.act(self.server))

    def _another_fault(self) -> None:
        self.say(self.faults.strike())

    def _a_moment(self) -> None:
        self.sim.clock.move(0.5)

    def _overtake(self) -> None:
        """This server stands still for a while; another takes the term and works. Then this one goes on, stale."""
        self.overtaken += 1
        self.say("the server stands still")
        self.server = None
        with suppress(Died):
            for step in self.dice.choices([self._tick, self._listen, self._settle, self._time_passes], k=6):
                self.say(f"another server {step()}")
            self.say("the server goes on")
            return
        self.lose_server()

    def _play(self, lease: Lease) -> Play:
        """How an attempt goes. ``plays`` keeps it: what the ledger says must be what happened."""
        attempt = lease.attempt
        if attempt in self.plays:
            return self.plays[attempt]  # a launch that came late: its first try is over
        kind = self.dice.choice(_ENDS)
        seconds = self.dice.choice([0.2, 1.0, 1.0, 1.0, 3.0, 3.0, 8.0, 8.0, 8_000.0]) if self.troubled else 0.5
        result = None
        if kind is OutcomeKind.SUCCEEDED:
            result = json.dumps(str(attempt))
        if attempt.kind is OwnerKind.BUILD:
            result = self._leave_image(attempt)
        play = Play(
            seconds=seconds,
            kind=kind,
            exit_code=1 if kind is OutcomeKind.EXIT_CODE else None,
            result=result,
            output=("a line",) if self.dice.random() < 0.3 else (),
            dies_after=self.dice.choice([0.0, 1.0, 60.0]),
        )
        self.plays[attempt] = play
        return play

    def _leave_image(self, attempt: AttemptId) -> str:
        """What a build leaves in the blob store, and says of it."""
        self.sim.blobs.path(incoming_blob(attempt.owner, attempt.number)).write_bytes(b"an image")
        digest = f"{attempt.owner:x}".rjust(64, "b")
        return json.dumps({"digest": digest, "size_bytes": 8, "manifest": {}})

    def grow_calm(self) -> None:
        """Nothing goes wrong any more."""
        self.troubled = False
        self.points.armed = False
        self.faults.cease()
        self.say("calm")

    def sweep(self) -> bool:
        """Forget what is due; whether the server lived to do all of it."""
        try:
            return self.alive().retain()
        except Died as death:
            self.say(f"the server died {death}")
            self.lose_server()
            return False

    def at_rest(self) -> bool:
        """Whether every execution and build has ended, and no process runs."""
        return self.sim.database.read(_open_ends) == 0 and self.sim.engine.next_end() is None

    def let_time_pass(self, seconds: float) -> None:
        """The clocks go on; both of them."""
        self.sim.clock.now += timedelta(seconds=seconds)


def _open_ends(connection: Connection) -> int:
    execution, build, attempt = schema.execution.c, schema.build.c, schema.attempt.c
    queries = (
        select(func.count()).where(execution.completed_at.is_(None)),
        select(func.count()).where(build.ended_at.is_(None)),
        select(func.count()).where(attempt.ended_at.is_(None)),
    )
    return sum(connection.scalar(query) or 0 for query in queries)
