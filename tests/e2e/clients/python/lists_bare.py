"""Lists as Python SDKs before 0.3.0 read them: bare arrays, executions by limit and offset, no list of tasks."""

from blaxel.core.client.api.jobs import list_jobs
from blaxel.core.client.client import client
from blaxel.core.jobs import BlJob


def jobs(limit: int) -> tuple[list[str], int]:
    """The names of all jobs; ``limit`` has no effect, as these versions take no pages of jobs."""
    found = list_jobs.sync(client=client)
    return [job.metadata.name for job in found], 1


def executions(job: BlJob, limit: int) -> tuple[list[str], int]:
    """The ids of all executions of ``job``, and how many pages of ``limit`` they came on."""
    pages = [job.list_executions(limit=limit)]
    while len(pages[-1]) == limit:
        pages.append(job.list_executions(limit=limit, offset=limit * len(pages)))
    return [each.metadata.id for page in pages for each in page], len(pages)


def tasks(job: BlJob, execution: str, limit: int) -> list[str] | None:
    """None: these versions have no such call."""
    return None
