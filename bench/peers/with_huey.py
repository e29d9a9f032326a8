"""huey on SQLite: two processes."""

import time

from huey import SqliteHuey
from work import run_true

WORKERS = ("huey_consumer", "with_huey.huey", "-w", "2", "-k", "process", "-q")

huey = SqliteHuey(filename="huey.db")
true = huey.task()(run_true)


def run(tasks: int) -> None:
    wanted = huey.result_count() + tasks
    for _ in range(tasks):
        true()
    while huey.result_count() < wanted:
        time.sleep(0.1)
