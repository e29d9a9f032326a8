"""dramatiq on Redis: two processes of one thread each."""

import dramatiq
from dramatiq.brokers.redis import RedisBroker
from dramatiq.results import Results
from dramatiq.results.backends import RedisBackend
from redis import Redis
from work import redis_url, run_true

WORKERS = ("dramatiq", "with_dramatiq", "--processes", "2", "--threads", "1")
LONGEST_MS = 3_600_000

broker = RedisBroker(url=redis_url(0))
# who waits for a result waits for as long as it takes
broker.add_middleware(Results(backend=RedisBackend(client=Redis.from_url(redis_url(1), socket_timeout=None))))
dramatiq.set_broker(broker)
true = dramatiq.actor(run_true, actor_name="true", store_results=True, result_ttl=LONGEST_MS)


def run(tasks: int) -> None:
    dramatiq.group([true.message() for _ in range(tasks)]).run().wait(timeout=LONGEST_MS)
