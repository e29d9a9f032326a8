"""RQ on Redis: a pool of two workers, each of which forks for every task, as it does by itself."""

import time

from redis import Redis
from rq import Queue
from work import redis_url, run_true

LONGEST_S = 3_600
URL = redis_url(0)
WORKERS = ("rq", "worker-pool", "-n", "2", "-u", URL, "-q")

queue = Queue(connection=Redis.from_url(URL))


def run(tasks: int) -> None:
    wanted = queue.finished_job_registry.count + tasks
    queue.enqueue_many([Queue.prepare_data(run_true, result_ttl=LONGEST_S) for _ in range(tasks)])
    while queue.finished_job_registry.count < wanted:
        time.sleep(0.1)
