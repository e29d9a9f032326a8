"""/v0/jobs/NAME/executions, /v0/executions, and the path under which a workspace's jobs are run."""

from datetime import UTC, datetime, timedelta
from functools import partial

from fastapi import APIRouter
from starlette.responses import Response

from tidemill.api.auth import Asked
from tidemill.api.calls import Call, from_big_body, json_answer, json_text
from tidemill.api.paging import Limit, ListQuery, as_page, in_shape, list_query, offset_of, page
from tidemill.api.wire_executions import (
    created_view,
    execution_request,
    execution_view,
    parse_task_index,
    parse_task_states,
    task_detail_view,
    tasks_view,
)
from tidemill.api.wire_reruns import rerun_request
from tidemill.model.execution import Task
from tidemill.service import executions, reruns
from tidemill.store.executions import Created, ExecutionOrder, ExecutionPage, History
from tidemill.store.shown import Shown
from tidemill.store.task_pages import TaskPage

router = APIRouter()

_EXECUTIONS = Limit(default=20, most=100)
_TASKS = Limit(default=50, most=200)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@router.post("/v0/jobs/{name}/executions")
async def create_execution(call: Asked, name: str) -> Response:
    return await _create(call, name)


@router.post("/{workspace_in_path}/jobs/{name}/executions")
async def run_job(call: Asked, name: str) -> Response:
    return await _create(call, name)


@router.get("/v0/jobs/{name}/executions")
async def list_executions(call: Asked, name: str) -> Response:
    query = list_query(call, f"jobs/{name}/executions", _EXECUTIONS)
    history = await call.run(partial(executions.history, call.parts, call.principal, name))
    wanted = _page(query, history, offset_of(call))
    found = await call.run(partial(executions.find_page, call.parts, wanted))
    shown, cursor = page(call, query, found, partial(_position, wanted))
    return json_answer(in_shape(call, [execution_view(each) for each in shown], cursor, history.total))


@router.get("/v0/jobs/{name}/executions/{execution}")
async def get_execution(call: Asked, name: str, execution: str) -> Response:
    return await _opened(call, name, execution)


@router.get("/v0/executions/{execution}")
async def find_execution(call: Asked, execution: str) -> Response:
    return await _opened(call, None, execution)


@router.delete("/v0/jobs/{name}/executions/{execution}")
async def cancel_execution(call: Asked, name: str, execution: str, force: bool = False) -> Response:
    cancel = partial(executions.cancel, call.parts, call.principal, name, execution, force=force, now=call.now)
    return json_text(await call.run(lambda: call.context.ended_tasks.answer(lambda _: cancel())))


@router.post("/v0/jobs/{name}/executions/{execution}/rerun")
async def rerun_execution(call: Asked, name: str, execution: str) -> Response:
    key = call.request.headers.get("idempotency-key", "")
    request = rerun_request(await call.body(), idempotency_key=key, strict=call.strict)
    create = partial(reruns.create, call.parts, call.principal, name, execution, request, now=call.now)
    created = await call.run(create)
    call.record.finds(created)
    return json_answer(created_view(created))


@router.get("/v0/jobs/{name}/executions/{execution}/tasks")
async def list_tasks(call: Asked, name: str, execution: str) -> Response:
    query = list_query(call, f"jobs/{name}/executions/{execution}/tasks", _TASKS, always_paged=True)
    # tasks are listed by index; the default sort is that of all lists, and is no wish to turn them round
    descending = call.request.query_params.get("sort", "").endswith(":desc")
    wanted = TaskPage(
        descending=descending,
        after=None if query.after is None else query.after[0],
        text=query.text,
        states=parse_task_states(query.status),
        limit=query.limit + 1,
    )
    found = await call.run(partial(executions.find_tasks, call.parts, call.principal, name, execution, wanted))
    shown, cursor = page(call, query, found.tasks, _task_position)
    # this list is younger than the bare shape of lists: it has pages in every version
    items = tasks_view(found.execution, shown)
    return json_answer(as_page(items, cursor, found.execution.stats.total))


@router.get("/v0/jobs/{name}/executions/{execution}/tasks/{index}")
async def get_task(call: Asked, name: str, execution: str, index: str) -> Response:
    number = parse_task_index(index)
    shown = await call.run(partial(executions.get_task, call.parts, call.principal, name, execution, number))
    return json_answer(task_detail_view(shown))


async def _opened(call: Call, name: str | None, execution: str) -> Response:
    read = partial(executions.get, call.parts, call.principal, name, execution)
    return json_text(await call.run(partial(call.context.ended_tasks.answer, read)))


async def _create(call: Call, name: str) -> Response:
    key = call.request.headers.get("idempotency-key", "")

    def work(body: bytes) -> Created:
        # splitting a million tasks takes a second: it belongs into the thread as well
        request = execution_request(body, idempotency_key=key, strict=call.strict)
        return executions.create(call.parts, call.principal, name, request, now=call.now)

    created = await from_big_body(call, work)
    call.record.finds(created)
    return json_answer(created_view(created))


def _page(query: ListQuery, history: History, offset: int) -> ExecutionPage:
    order = ExecutionOrder.CREATED if query.by == "createdAt" else ExecutionOrder.ID
    after = None
    if query.after is not None:
        value, key = query.after
        after = (_EPOCH + timedelta(microseconds=value) if order is ExecutionOrder.CREATED else value, key)
    return ExecutionPage(
        job=history.job,
        order=order,
        descending=query.descending,
        after=after,
        text=query.text,
        limit=query.limit + 1,
        offset=offset,
    )


def _position(wanted: ExecutionPage, shown: Shown) -> list[object]:
    execution = shown.execution
    by_time = wanted.order is ExecutionOrder.CREATED
    value = (execution.created_at - _EPOCH) // timedelta(microseconds=1) if by_time else execution.id
    return [value, execution.key]


def _task_position(task: Task) -> list[object]:
    return [task.index]
