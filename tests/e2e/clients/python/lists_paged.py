"""Lists as Python SDKs from 0.3.0 on read them: pages with cursors, followed by the SDK's own pager."""

from typing import Any

from blaxel.core.client.api.jobs import list_job_execution_tasks, list_jobs
from blaxel.core.client.client import client
from blaxel.core.client.pagination import PaginatedList, make_paginated_list, normalize_cursor
from blaxel.core.jobs import BlJob


def jobs(limit: int) -> tuple[list[str], int]:
    """The names of all jobs, and how many pages of ``limit`` they came on."""
    pages = 0

    def fetch(cursor: str | None) -> PaginatedList[Any]:
        nonlocal pages
        pages += 1
        page = list_jobs.sync(client=client, cursor=normalize_cursor(cursor), limit=limit)
        return make_paginated_list(page, mapper=lambda job: job, fetch_next=fetch)

    return [job.metadata.name for job in fetch(None).auto_paging_iter()], pages


def executions(job: BlJob, limit: int) -> tuple[list[str], int]:
    """The ids of all executions of ``job``, and how many pages of ``limit`` they came on."""
    pages = [job.list_executions(limit=limit)]
    while pages[-1].has_more:
        pages.append(pages[-1].next_page())
    found = [each.metadata.id for each in job.list_executions(limit=limit).auto_paging_iter()]
    assert found == [each.metadata.id for page in pages for each in page]
    return found, len(pages)


def tasks(job: BlJob, execution: str, limit: int) -> list[str] | None:
    """The names of all tasks of an execution, page by page."""

    def fetch(cursor: str | None) -> PaginatedList[Any]:
        page = list_job_execution_tasks.sync(
            job.name, execution, client=client, cursor=normalize_cursor(cursor), limit=limit
        )
        return make_paginated_list(page, mapper=lambda task: task, fetch_next=fetch)

    return [task.metadata.name for task in fetch(None).auto_paging_iter()]
