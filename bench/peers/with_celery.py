"""Celery on Redis: a worker with two processes."""

from celery import Celery, group
from work import redis_url, run_true

WORKERS = ("celery", "-A", "with_celery", "worker", "-c", "2", "-l", "error")

app = Celery("with_celery", broker=redis_url(0), backend=redis_url(1))
true = app.task(name="true")(run_true)


def run(tasks: int) -> None:
    group(true.s() for _ in range(tasks)).apply_async().get()
