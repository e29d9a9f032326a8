"""What a server and its node take when nothing happens: share of a core, and wake-ups; next to a bare FastAPI one."""

import time
from typing import Final

from bench.ground import Ground
from bench.processes import counted
from bench.requests import bare
from bench.results import Round

# what the work before has left to do is done by then
SETTLE_S: Final = 5.0


def rounds(ground: Ground, *, seconds: float, count: int) -> list[Round]:
    """Each of so many seconds, in which nobody asks for anything."""
    with bare() as (_port, pid):
        time.sleep(SETTLE_S)
        return [_round(ground, pid, seconds) for _ in range(count)]


def _round(ground: Ground, bare_pid: int, seconds: float) -> Round:
    server, node = ground.pids
    pids = {"server": server, "node": node, "bare": bare_pid}
    before = {name: counted(pid) for name, pid in pids.items()}
    begun = time.perf_counter()
    time.sleep(seconds)
    took = time.perf_counter() - begun
    found: Round = {}
    for name, pid in pids.items():
        after = counted(pid)
        found[f"{name}_percent"] = (after.cpu_s - before[name].cpu_s) / took * 100
        found[f"{name}_wakeups"] = (after.waits - before[name].waits) / took
    found["percent"] = found["server_percent"] + found["node_percent"]
    found["wakeups"] = found["server_wakeups"] + found["node_wakeups"]
    return found
