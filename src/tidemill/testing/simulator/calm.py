"""The end of a world: nothing goes wrong any more, so everything must come to rest, and within bounds."""

from typing import Final

from tidemill.model.errors import TidemillError
from tidemill.testing.simulator.audit import Audit
from tidemill.testing.simulator.server import Server
from tidemill.testing.simulator.world import World

PASSES: Final = 400
LONGEST_IDLE_S: Final = 600.0
# lease, kill grace and margin are 40 s, a reconciliation comes every 30 s, and another grace follows it
WELL_AFTER_S: Final = 100.0
_STRIDE_S: Final = 15.0
# the longest wait there is: bytes of an upload that began to come are waited for an hour, by clocks that were set back
_UPLOADS_S: Final = 3_700.0 + 3_600.0 * 4


def calm(world: World, audit: Audit) -> list[str]:
    """Users are answered, nodes are heard, and time passes from one due thing to the next; what is broken."""
    world.grow_calm()
    server = world.alive()
    audit.calm_begins()
    world.users.visit(server)
    for request in list(world.users.unanswered):
        try:
            world.say(world.users.send(server, request))
        except TidemillError as error:
            world.say(f"{request.request_id} was refused: {error.error_code}")
    well_at = world.sim.clock.seconds() + WELL_AFTER_S
    while world.sim.clock.seconds() < well_at:
        _pass(world, server, _STRIDE_S)
    if broken := audit.look(well=True):
        return broken
    if world.has_triggers:
        server.fire()
        if broken := [*audit.look(well=True), *audit.due()]:
            return broken
        world.users.drop_triggers(server)
        server.fire()
    for _ in range(2):
        _rest(world, server)
        world.let_time_pass(_UPLOADS_S)
        server.retain()
    return audit.look(well=True, at_rest=True)


def _rest(world: World, server: Server) -> None:
    """Go on until nothing is left to do, or nothing comes of it."""
    idle_s = 1.0
    for _ in range(PASSES):
        before = len(world.plays)
        _pass(world, server, idle_s)
        if world.at_rest():
            return
        # a clock that was set back makes what waits for its time wait longer
        idle_s = 1.0 if len(world.plays) > before else min(2 * idle_s, LONGEST_IDLE_S)


def _pass(world: World, server: Server, idle_s: float) -> None:
    """One round of all threads; then time passes, up to the next end of a process at most."""
    while server.settle():
        pass
    for node in world.nodes_of(server):
        while server.listen(node) and server.settle():
            pass
    while server.collect():
        pass
    if world.has_triggers:
        server.fire()
    due = server.tick()
    wait_s = max(idle_s, 0.0 if due is None else (due - world.wall.now()).total_seconds())
    end = world.sim.engine.next_end()
    if end is not None:
        # no longer than a lease lives: each tick renews them
        wait_s = min(wait_s, _STRIDE_S, end - world.node_clock())
    world.let_time_pass(max(0.001, wait_s))
