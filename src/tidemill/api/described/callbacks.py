"""The operations about callbacks, and the schemas of their answers."""

from collections.abc import Mapping
from typing import Final

from tidemill.api.described.answers import FLAG, TEXT, TIME, WHOLE, Schema, listed, record, ref
from tidemill.api.described.operation import Operation
from tidemill.api.described.parameters import comma_list
from tidemill.model.states import EXECUTION_FINAL, DeliveryState
from tidemill.service.callbacks import DEFAULT_OVERLAP_S, MAX_OVERLAP_S

_CALLBACKS: Final = "/v0/jobs/{name}/callbacks"
_STATES: Final = [state.value for state in DeliveryState]

CALLBACKS: Final[Mapping[tuple[str, str], Operation]] = {
    ("GET", _CALLBACKS): Operation(
        summary="List what executions' ends were, or are to be, told of, newest first",
        answer=ref("CallbackList"),
        query={
            "cursor": TEXT,
            "limit": {"type": "integer", "minimum": 1},
            "status": comma_list(*_STATES),
        },
        errors=[404],
    ),
    ("POST", f"{_CALLBACKS}/replay"): Operation(
        summary="Deliver all parked callbacks of a job again", answer=ref("ReplayedCallbacks"), errors=[404]
    ),
    ("POST", f"{_CALLBACKS}/{{execution}}/replay"): Operation(
        summary="Deliver the callback of an execution again", answer=ref("Callback"), errors=[404]
    ),
    ("POST", "/v0/jobs/{name}/triggers/{trigger}/callback_secret"): Operation(
        summary="Sign a trigger's callbacks with a fresh secret; the only answer with it",
        answer=ref("CallbackSecret"),
        query={
            "overlap": {
                "type": "integer",
                "minimum": 0,
                "maximum": MAX_OVERLAP_S,
                "description": f"Seconds for which the older secret is good beside it; {DEFAULT_OVERLAP_S}",
            }
        },
        errors=[404],
    ),
}
CALLBACKS_SCHEMAS: Final[Mapping[str, Schema]] = {
    "Callback": record(
        {
            "executionId": TEXT,
            "triggerId": TEXT,
            "status": {"type": "string", "enum": _STATES},
            "executionStatus": {"type": "string", "enum": sorted(state.value for state in EXECUTION_FINAL)},
            "statusCode": WHOLE,
            "tries": WHOLE,
            "createdAt": TIME,
        },
        {"nextTryAt": TIME, "lastAnswer": WHOLE, "lastError": TEXT, "settledAt": TIME},
    ),
    "CallbackList": record({"data": listed(ref("Callback")), "meta": record({"hasMore": FLAG, "nextCursor": TEXT})}),
    "ReplayedCallbacks": record({"replayed": WHOLE}),
    "CallbackSecret": record({"triggerId": TEXT, "callbackSecret": TEXT, "previousSecretEndsAt": TIME}),
}
