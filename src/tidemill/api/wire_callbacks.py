"""Callbacks on the wire (docs/wire.md, Callbacks)."""

from typing import Final

from tidemill.api.wire import Json, present, timestamp
from tidemill.model.callback import Delivery
from tidemill.model.errors import Invalid
from tidemill.model.quoted import quoted
from tidemill.model.states import DeliveryState
from tidemill.service.callbacks import Rotated

_STATES: Final = tuple(state.value for state in DeliveryState)


def delivery_view(delivery: Delivery) -> dict[str, Json]:
    """How far a callback has come."""
    return present(
        {
            "executionId": delivery.execution,
            "triggerId": delivery.trigger,
            "status": delivery.state.value,
            "executionStatus": delivery.status.value,
            "statusCode": delivery.code,
            "tries": delivery.tries,
            "nextTryAt": timestamp(delivery.due_at),
            "lastAnswer": delivery.answered,
            "lastError": delivery.message or None,
            "createdAt": timestamp(delivery.created_at),
            "settledAt": timestamp(delivery.settled_at),
        }
    )


def rotated_view(rotated: Rotated) -> dict[str, Json]:
    """The only answer with the new secret."""
    return {
        "triggerId": rotated.trigger,
        "callbackSecret": rotated.secret,
        "previousSecretEndsAt": timestamp(rotated.older_until),
    }


def parse_delivery_states(text: str) -> frozenset[DeliveryState]:
    """A comma list in any case; empty for all. Raises Invalid for an unknown one."""
    words = [word.strip().lower() for word in text.split(",") if word.strip()]
    for word in words:
        if word not in _STATES:
            raise Invalid(f"status has {quoted(word)}; it must be of {', '.join(_STATES)}")
    return frozenset(DeliveryState(word) for word in words)
