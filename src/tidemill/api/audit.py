"""GET /v0/audit: who did what in the workspace, newest first. For its admins (scope audit:list)."""

import json
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Final

from fastapi import APIRouter
from starlette.responses import Response

from tidemill.api.auth import Asked
from tidemill.api.calls import json_answer
from tidemill.api.paging import Limit, list_query, page
from tidemill.api.parameters import instant
from tidemill.api.wire import Json, timestamp
from tidemill.model.errors import Invalid
from tidemill.service import audit
from tidemill.store.audit import Audited, AuditPage

router = APIRouter(prefix="/v0/audit")

_LIMIT = Limit(default=50, most=200)
_FILTERS: Final = ("actor", "action", "resource", "start", "end")
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


@router.get("")
async def list_audit(call: Asked) -> Response:
    asked = call.request.query_params
    filters = {name: asked.get(name, "") for name in _FILTERS}
    # younger than the bare shape of lists: it has pages in every version
    query = list_query(call, f"audit {json.dumps(filters)}", _LIMIT, always_paged=True)
    if query.by != "createdAt" or not query.descending:
        raise Invalid("sort is not createdAt:desc, which is the only order of the audit")
    after = None
    if query.after is not None:
        at, number = query.after
        after = _EPOCH + timedelta(microseconds=at), number
    wanted = AuditPage(
        workspace=call.principal.workspace,
        actor=filters["actor"],
        action=filters["action"],
        resource=filters["resource"].strip("/"),
        since=instant(filters, "start"),
        until=instant(filters, "end"),
        after=after,
        limit=query.limit + 1,
    )
    found = await call.run(partial(audit.find_page, call.parts, wanted))
    shown, cursor = page(call, query, found, _position)
    # without a total: counting would read every row that there ever was
    meta = {"hasMore": bool(cursor), "nextCursor": cursor}
    return json_answer({"data": [_view(each) for each in shown], "meta": meta})


def _position(row: Audited) -> list[Json]:
    return [(row.entry.at - _EPOCH) // timedelta(microseconds=1), row.number]


def _view(row: Audited) -> dict[str, Json]:
    entry = row.entry
    return {
        "createdAt": timestamp(entry.at),
        "actor": entry.actor,
        "actorType": entry.actor_kind,
        "credential": entry.credential,
        "action": entry.action,
        "resource": entry.resource,
        "outcome": entry.outcome.value,
        "status": entry.status,
        "address": entry.address,
        "requestId": entry.request,
    }
