"""Why an execution or a task waits, or how it ended (ours; docs/wire.md)."""

from functools import partial

from fastapi import APIRouter
from starlette.responses import Response

from tidemill.api.auth import Asked
from tidemill.api.calls import Call, json_answer
from tidemill.api.wire import Json, present, timestamp
from tidemill.api.wire_executions import parse_task_index
from tidemill.api.wire_protections import had_view
from tidemill.model.execution import Failure
from tidemill.model.why import Explanation
from tidemill.service import explain
from tidemill.store.explain import Question

router = APIRouter()


@router.get("/v0/jobs/{name}/executions/{execution}/explain")
async def explain_execution(call: Asked, name: str, execution: str, task: str | None = None) -> Response:
    return await _explain(call, name, execution, task)


@router.get("/v0/executions/{execution}/explain")
async def explain_any(call: Asked, execution: str, task: str | None = None) -> Response:
    return await _explain(call, None, execution, task)


async def _explain(call: Call, name: str | None, execution: str, task: str | None) -> Response:
    index = None if task is None else parse_task_index(task)
    question = Question(workspace=call.principal.workspace, execution=execution, job=name, task=index)
    outlook = call.context.outlook()
    return json_answer(_view(await call.run(partial(explain.explain, call.parts, question, outlook, now=call.now))))


def _view(found: Explanation) -> dict[str, Json]:
    """The sentence, its word, and those facts that apply."""
    facts = {
        "cap": found.cap or None,
        "limit": found.limit,
        "used": found.used,
        "holders": list(found.holders) or None,
        "until": timestamp(found.until),
        "since": timestamp(found.since),
        "node": found.node or None,
        "condition": found.condition or None,
        "message": found.message or None,
        "exitCode": found.exit_code,
        "signal": found.signal,
        "failures": [_failure(one) for one in found.failures] or None,
        "protections": had_view(found.had),
    }
    return {"summary": found.summary, "reason": found.why.value, **present(facts)}


def _failure(one: Failure) -> dict[str, Json]:
    first = {"more": one.more or None, "message": one.message or None, "exitCode": one.exit_code, "signal": one.signal}
    return {"reason": one.reason, "count": one.count, "firstIndex": one.first_index, **present(first)}
