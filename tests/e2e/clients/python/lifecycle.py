"""All that a job goes through, with the unmodified Python SDK. Prints what it saw as one line of JSON.

Usage: lifecycle.py PREFIX IMAGE LISTS, where LISTS is the sibling module that knows this version's lists.
"""

import importlib
import json
import os
import sys
from collections.abc import Callable
from typing import Any

import blaxel  # noqa: F401  (its import reads BL_WORKSPACE and BL_API_KEY)
from blaxel.core.client.api.jobs import create_job, delete_job, get_job, update_job
from blaxel.core.client.client import client
from blaxel.core.client.models import Job
from blaxel.core.jobs import bl_job

PREFIX, IMAGE, LISTS = sys.argv[1:]
lists = importlib.import_module(LISTS)
client.with_base_url(os.environ["BL_API_URL"])


def job(name: str, mark: str, timeout: int = 60) -> Any:
    runtime = {
        "image": IMAGE,
        "memory": 64,
        "timeout": timeout,
        "maxRetries": 0,
        "maxConcurrentTasks": 2,
        "envs": [{"name": "MARK", "value": mark}],
    }
    return Job.from_dict({"metadata": {"name": name, "labels": {"made-by": PREFIX}}, "spec": {"runtime": runtime}})


def error(call: Callable[[], object]) -> list[str]:
    """The class and the text of what ``call`` raises."""
    try:
        call()
    except Exception as raised:  # noqa: BLE001  (whatever the SDK raises is what we want to know)
        return [type(raised).__name__, str(raised)]
    return ["nothing", ""]


names = [f"{PREFIX}-{number}" for number in range(5)]
created = [create_job.sync(client=client, body=job(name, "first")) for name in names]
name = names[0]
first = get_job.sync(name, client=client)
update_job.sync(name, client=client, body=job(name, "second", timeout=30))
second = get_job.sync(name, client=client)
listed, job_pages = lists.jobs(limit=2)

own = bl_job(name)
done_id = own.run([{"n": n} for n in range(3)], env={"GREETING": "Bonjour"})
returned = own.wait_for_execution(done_id, max_wait=50, interval=1)
done = own.get_execution(done_id)

cancelled_id = own.run([{"slow": n} for n in range(20)])
while own.get_execution(cancelled_id).stats.running == 0:  # each look is a request: no need to pause
    pass
own.cancel_execution(cancelled_id)
own.wait_for_execution(cancelled_id, max_wait=50, interval=1)
cancelled = own.get_execution(cancelled_id)
third_id = own.run([{"n": 0}], env={"GREETING": "Bonjour"}, execution_id=f"{PREFIX}-third")
own.wait_for_execution(third_id, max_wait=50, interval=1)
executions, execution_pages = lists.executions(own, limit=2)

errors = {
    "get": error(lambda: get_job.sync("missing", client=client)),
    "run": error(lambda: bl_job("missing").run([{"n": 0}])),
    "execution": error(lambda: own.get_execution("missing-execution")),
    "duplicate": error(lambda: create_job.sync(client=client, body=job(name, "third"))),
    "invalid": error(lambda: create_job.sync(client=client, body=job("Not A Name", "first"))),
}
deleted = [delete_job.sync(each, client=client) for each in names]

print(
    json.dumps(
        {
            "created": [each.metadata.name for each in created],
            "images": sorted({each.spec.runtime.image for each in created}),
            "updated": [[each.spec.runtime.timeout, each.spec.runtime.envs[0].value] for each in (first, second)],
            "jobs": listed,
            "job_pages": job_pages,
            "ran": done_id,
            "status": own.get_execution_status(done_id),
            "waited": str(getattr(returned, "status", "succeeded")),
            "stats": done.stats.to_dict(),
            "timeout": done.spec.timeout,
            "round_trip": done.to_dict()["metadata"]["id"],
            "tasks": lists.tasks(own, done_id, limit=2),
            "cancelled": cancelled_id,
            "cancelled_status": own.get_execution_status(cancelled_id),
            "never_ran": cancelled.stats.cancelled,
            "third": third_id,
            "executions": executions,
            "execution_pages": execution_pages,
            "errors": errors,
            "deleted": [each.metadata.name for each in deleted],
            "gone": error(lambda: get_job.sync(name, client=client)),
        }
    )
)
