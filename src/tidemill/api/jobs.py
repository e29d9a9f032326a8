"""/v0/jobs."""

from datetime import UTC, datetime, timedelta
from functools import partial

from fastapi import APIRouter
from starlette.responses import Response

from tidemill.api.auth import Asked
from tidemill.api.calls import UPLOAD_HEADER, Call, json_answer
from tidemill.api.paging import Limit, ListQuery, in_shape, list_query, page
from tidemill.api.wire import parse_json, validated
from tidemill.api.wire_jobs import JobBody, job_request, job_view, parse_states
from tidemill.api.wire_revision import revision_view
from tidemill.model.errors import Invalid
from tidemill.model.job import Job
from tidemill.service import jobs
from tidemill.service.jobs import Search, Written
from tidemill.store.jobs import JobOrder, JobPage

router = APIRouter(prefix="/v0/jobs")

_LIMIT = Limit(default=50, most=200)
# an old version knows no pages: all jobs come at once
_ALL = Limit(default=1_000_000, most=1_000_000)
_COMMAND_LINE = "blaxel/cli/"
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@router.get("")
async def list_jobs(call: Asked) -> Response:
    query = list_query(call, "jobs", _LIMIT if call.paged else _ALL, anchored=True)
    search = _search(call, query)
    found = await call.run(partial(jobs.find_page, call.parts, search, now=call.now))
    shown, cursor = page(call, query, found, partial(_position, search.page))
    if query.tail:
        shown = shown[::-1]
    total = await call.run(partial(jobs.total, call.parts, call.principal.workspace))
    return json_answer(in_shape(call, [_view(call, job) for job in shown], cursor, total))


@router.post("")
async def create_job(call: Asked, upload: bool = False) -> Response:
    body = validated(JobBody, parse_json(await call.body()), strict=call.strict)
    name = body.metadata.name if body.metadata is not None else None
    if name is None:
        raise Invalid("metadata.name is missing; a job needs a name")
    request = job_request(body, name=name, upload=upload, watched=_is_watched(call))
    written = await call.run(partial(jobs.create, call.parts, call.principal, request, now=call.now))
    return _written(call, written)


@router.get("/{name}")
async def get_job(call: Asked, name: str, show_secrets: bool = False) -> Response:
    if show_secrets:
        call.reads_secrets()
    read = partial(jobs.get, call.parts, call.principal, name, show_secrets=show_secrets, now=call.now)
    return json_answer(_view(call, await call.run(read)))


@router.get("/{name}/revisions")
async def list_revisions(call: Asked, name: str) -> Response:
    # no page in any version: a job keeps few (contract 3.2)
    found = await call.run(partial(jobs.revisions, call.parts, call.principal, name))
    return json_answer([revision_view(revision) for revision in found])


@router.put("/{name}")
async def put_job(call: Asked, name: str, upload: bool = False) -> Response:
    body = validated(JobBody, parse_json(await call.body()), strict=call.strict)
    named = body.metadata.name if body.metadata is not None else None
    if named not in {None, name}:
        raise Invalid(f"metadata.name is {str(named)[:64]!r}, but the path says {name[:64]!r}; a job keeps its name")
    request = job_request(body, name=name, upload=upload, watched=_is_watched(call))
    written = await call.run(partial(jobs.put, call.parts, call.principal, request, now=call.now))
    return _written(call, written)


@router.delete("/{name}")
async def delete_job(call: Asked, name: str) -> Response:
    job = await call.run(partial(jobs.delete, call.parts, call.principal, name, now=call.now))
    return json_answer(_view(call, job))


def _search(call: Call, query: ListQuery) -> Search:
    order = JobOrder.CREATED if query.by == "createdAt" else JobOrder.NAME
    states = parse_states(query.status)
    after = None
    if query.after is not None:
        value, key = query.after
        after = (_EPOCH + timedelta(microseconds=value) if order is JobOrder.CREATED else value, key)
    wanted = JobPage(
        workspace=call.principal.workspace,
        order=order,
        # the tail is the head of the other direction, turned round
        descending=query.descending != query.tail,
        after=after,
        states=states if call.paged else frozenset(),
        limit=query.limit + 1,
    )
    return Search(page=wanted, text=query.text)


def _position(wanted: JobPage, job: Job) -> list[object]:
    value = jobs.position(job, wanted)
    return [(value - _EPOCH) // timedelta(microseconds=1) if isinstance(value, datetime) else value, job.key]


def _view(call: Call, job: Job) -> dict[str, object]:
    return job_view(job, call.base_url, call.context.plan)


def _written(call: Call, written: Written) -> Response:
    answer = json_answer(_view(call, written.job))
    if written.capability:
        answer.headers[UPLOAD_HEADER] = f"{call.base_url}/uploads/{written.capability}"
    return answer


def _is_watched(call: Call) -> bool:
    return call.request.headers.get("user-agent", "").startswith(_COMMAND_LINE)
