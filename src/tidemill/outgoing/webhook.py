"""What a receiver is sent: the body and the headers that the official SDKs verify (contract 10)."""

import hmac
import json
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import version
from typing import Final

from tidemill.model.execution import Stats
from tidemill.model.states import ExecutionState

_AGENT: Final = f"tidemill/{version('tidemill')}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Told:
    """The end of an execution, by its public id. ``code`` says it in the numbers of HTTP."""

    execution: str
    status: ExecutionState
    code: int
    stats: Stats


def body(told: Told, at: int) -> bytes:
    """The JSON that is signed and sent. ``at`` is now, in seconds since the epoch."""
    stats = told.stats
    inner = _compact(
        {
            "executionId": told.execution,
            "status": told.status.value,
            "stats": {
                "total": stats.total,
                "running": stats.running,
                "success": stats.succeeded,
                "failure": stats.failed,
                "retried": stats.retried,
                "cancelled": stats.cancelled,
            },
        }
    )
    return _compact(
        {"status_code": told.code, "response_body": inner, "response_length": len(inner.encode()), "timestamp": at}
    ).encode()


def headers(data: bytes, secret: str, at: int) -> Mapping[str, str]:
    """What is sent with the body ``data``. The signature covers the body alone: that is what the SDKs compute."""
    signature = hmac.new(secret.encode(), data, "sha256").hexdigest()
    return {
        "Content-Type": "application/json",
        "User-Agent": _AGENT,
        "X-Blaxel-Signature": f"sha256={signature}",
        "X-Blaxel-Timestamp": str(at),
    }


def _compact(value: object) -> str:
    return json.dumps(value, separators=(",", ":"))
