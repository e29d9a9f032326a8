"""A long day in short: executions of all sizes, cancels, reruns, deploys, triggers, restarts of server and node.

Nothing that is looked at may grow from the second to the last quarter (samples.py), and in the end all has ended.
Server and node begin anew several times in the first quarter and once in the middle: what leaks from then on shows.
"""

import os
import random
import signal
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from http import HTTPStatus
from pathlib import Path
from typing import Final

import httpx2

from tests.e2e.drills.ground import ENDED, DrillError, Ground, ground
from tests.e2e.drills.samples import Sample, grown, table, take
from tests.e2e.drive import select_pause, until

# the shortest that there is, 14 minutes: what ended in the first half of the run is swept in the second
SETTINGS: Final = {"TIDEMILL_RETENTION_DAYS": "0.01"}
JOB: Final = """type = "job"
name = "churn"
[entrypoint]
prod = "sh main.sh"
[runtime]
memory = 16
maxConcurrentTasks = 32
[[triggers]]
id = "minutely"
type = "cron"
[triggers.configuration]
schedule = "* * * * *"
"""
# every 50th task fails, and some take a moment
SCRIPT: Final = """
echo "task $TASK_INDEX of revision {revision}"
[ $((TASK_INDEX % 20)) -ne 7 ] || sleep 0.2
[ $((TASK_INDEX % 50)) -ne 49 ]
"""
# how many tasks an execution has at most, and how often such a one comes
SIZES: Final = {1: 60, 50: 30, 500: 9, 5_000: 1}
# what may wait at once: a few minutes' work at the most
_LIMIT: Final = 6_000
_SAMPLES: Final = 60
_END_S: Final = 600


@dataclass(slots=True)
class Churn:
    """What users do to a server. ``running`` are tasks by execution; ``done`` counts what was done, by its name."""

    on: Ground
    folder: Path
    chance: random.Random
    running: dict[str, int] = field(default_factory=dict)
    ended: list[str] = field(default_factory=list)
    done: dict[str, int] = field(default_factory=dict)

    def step(self) -> None:
        """One wish, of those that make sense now."""
        wishes: Mapping[Callable[[], None], int] = {
            self.submit: 200 if sum(self.running.values()) < _LIMIT else 0,
            self.look: 200,
            self.cancel: 20 if self.running else 0,
            self.rerun: 20 if self.ended else 0,
            self.fire: 10,
            self.deploy: 4,
        }
        (wish,) = self.chance.choices(list(wishes), list(wishes.values()))
        wish()
        self._count(wish.__name__)

    def submit(self) -> None:
        (most,) = self.chance.choices(list(SIZES), list(SIZES.values()))
        self.post(self.chance.randint(1, most))

    def post(self, tasks: int) -> str:
        """Submit an execution of so many tasks; its id."""
        body = {"tasks": [{"n": n} for n in range(tasks)]}
        execution = str(self._ask("POST", "/jobs/churn/executions", body)["executionId"])
        self.running[execution] = tasks
        return execution

    def get(self, execution: str) -> Mapping[str, object]:
        return self._ask("GET", f"/jobs/churn/executions/{execution}")

    def look(self) -> None:
        """At the execution that was submitted first."""
        for execution in list(self.running)[:1]:
            if self.get(execution)["status"] in ENDED:
                del self.running[execution]
                self.ended = [*self.ended[-50:], execution]

    def cancel(self) -> None:
        execution = self.chance.choice(list(self.running))
        # it may have ended by now
        self._ask("DELETE", f"/jobs/churn/executions/{execution}", fine={HTTPStatus.CONFLICT})

    def rerun(self) -> None:
        """Of what has not succeeded; there may be nothing, or it was swept."""
        execution = self.chance.choice(self.ended)
        path = f"/jobs/churn/executions/{execution}/rerun"
        made = self._ask("POST", path, {"select": "not_succeeded"}, fine={HTTPStatus.BAD_REQUEST, HTTPStatus.NOT_FOUND})
        if "executionId" in made:
            # how many it runs again nobody has said; some, for the bound of what waits
            self.running[str(made["executionId"])] = 50

    def fire(self) -> None:
        made = self._ask("POST", "/jobs/churn/triggers/minutely/fire")
        self.running[str(made["executionId"])] = 1

    def deploy(self) -> None:
        """A new revision."""
        self.folder.mkdir(exist_ok=True)
        (self.folder / "blaxel.toml").write_text(JOB)
        (self.folder / "main.sh").write_text(SCRIPT.replace("{revision}", str(self.chance.random())))
        self.on.server.cli("deploy", str(self.folder))

    def restart(self) -> None:
        """The server in good order or by kill -9, and the node by kill -9."""
        self.chance.choice((self.on.server.kill, self.on.server.terminate))()
        self.on.server.start()
        node = until(self._node, seconds=60)
        assert node is not None
        with suppress(ProcessLookupError):
            os.kill(node, signal.SIGKILL)
        until(lambda: self._node() not in {None, node}, seconds=60)
        until(lambda: httpx2.get(f"{self.on.server.url}/readyz").status_code == HTTPStatus.OK, seconds=60)
        self._count("restart")

    def _node(self) -> int | None:
        """Its pid; None while there is none."""
        try:
            return self.on.server.node_pid
        except FileNotFoundError:
            return None

    def finish(self) -> None:
        """Wait until all has ended. Raises DrillError for what has not."""
        until(self._none_runs, seconds=_END_S)
        until(lambda: not self.on.server.tasks(), seconds=60)

    def _none_runs(self) -> bool:
        before = len(self.running)
        self.look()
        return not self.running and before == 0

    def _ask(self, method: str, path: str, body: object = None, fine: Collection[int] = ()) -> Mapping[str, object]:
        with self.on.server.http() as http:
            answer = http.request(method, path, json=body if method == "POST" else None)
        if answer.is_success or answer.status_code in fine:
            found: Mapping[str, object] = answer.json()
            return found
        raise DrillError(f"{method} {path} was answered {answer.status_code}: {answer.text[:500]}")

    def _count(self, name: str) -> None:
        self.done[name] = self.done.get(name, 0) + 1


def soak(churn: Churn, seconds: float) -> Iterator[Sample]:
    """Churn for so long; a sample every half minute of half an hour."""
    begun = time.monotonic()
    restarts = [seconds * share for share in (0.05, 0.10, 0.15, 0.20, 0.50)]
    looks = [seconds * (number + 1) / _SAMPLES for number in range(_SAMPLES)]
    while looks:
        passed = time.monotonic() - begun
        if restarts and passed >= restarts[0]:
            restarts.pop(0)
            churn.restart()
        elif passed >= looks[0]:
            looks = [look for look in looks if look > passed]
            yield take(churn.on.server, begun, lambda: churn.post(1), churn.get)
        else:
            churn.step()
            select_pause()


def drill(folder: Path, *, seconds: float, chance: random.Random) -> str:
    """Print a table of samples; what was done. Raises DrillError when something grew, is stuck or was left."""
    samples: list[Sample] = []
    with ground(folder, settings=SETTINGS) as on:
        churn = Churn(on, folder / "churn", chance)
        churn.deploy()
        samples += soak(churn, seconds)
        churn.finish()
    print(table(samples))
    if problems := grown(samples, seconds):
        raise DrillError("; ".join(problems))
    return ", ".join(f"{count} x {name}" for name, count in sorted(churn.done.items()))
