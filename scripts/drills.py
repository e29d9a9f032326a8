"""make drills: kill -9 of server and node at random under a running execution (`python -m scripts.drills`).

KILLS and TASKS in the environment change how many; SEED repeats a run's choices.
"""

import os
import random
import signal
import sys
import tempfile
from contextlib import suppress
from pathlib import Path

from tests.e2e.drive import Server, until

JOB = """type = "job"
name = "drill"
[entrypoint]
prod = "sh main.sh"
[runtime]
memory = 16
maxConcurrentTasks = 16
"""
SCRIPT = """
sleep 0.$((TASK_INDEX % 5))
cat "$TIDEMILL_TASK_FILE" > "$TIDEMILL_RESULT_FILE"
"""


def drill(server: Server, *, kills: int, tasks: int, chance: random.Random) -> dict[str, int]:
    """The execution's stats after it has ended in spite of ``kills`` kills."""
    with server.http() as http:
        body = {"tasks": [{"n": n} for n in range(tasks)]}
        execution_id = http.post("/jobs/drill/executions", json=body).json()["executionId"]
    path = f"/jobs/drill/executions/{execution_id}"
    done = 0
    for _ in range(kills):
        with server.http() as http:
            until(lambda http=http, done=done: http.get(path).json()["stats"]["success"] > done, seconds=120)
            done = http.get(path).json()["stats"]["success"]
            if http.get(path).json()["status"] != "running":
                break
        victim = chance.choice(("server", "node"))
        print(f"{done:5} done; kill -9 of the {victim}")
        if victim == "server":
            server.kill()
            server.start()
        else:
            with suppress(ProcessLookupError):
                os.kill(server.node_pid, signal.SIGKILL)
    with server.http() as http:
        until(lambda: http.get(path).json()["status"] in {"succeeded", "failed", "cancelled"}, seconds=600)
        stats: dict[str, int] = http.get(path).json()["stats"]
    return stats


def main() -> None:
    kills, tasks = int(os.environ.get("KILLS", "30")), int(os.environ.get("TASKS", "2000"))
    seed = int(os.environ.get("SEED", str(random.SystemRandom().randrange(10**6))))
    print(f"SEED={seed} KILLS={kills} TASKS={tasks}")
    with tempfile.TemporaryDirectory() as folder:
        job = Path(folder) / "drill"
        job.mkdir()
        (job / "blaxel.toml").write_text(JOB)
        (job / "main.sh").write_text(SCRIPT)
        server = Server(Path(folder) / "data")
        server.start()
        try:
            server.cli("deploy", str(job))
            stats = drill(server, kills=kills, tasks=tasks, chance=random.Random(seed))
        finally:
            server.stop()
        said = server.cli("doctor", "--ledger", code=0)
        left = server.ours()
    print(stats, said.strip(), f"{len(left)} processes left", sep="\n")
    wanted = {"total": tasks, "success": tasks, "running": 0, "failure": 0, "cancelled": 0, "retried": 0}
    sys.exit(0 if stats == wanted and not left else 1)


if __name__ == "__main__":
    main()
