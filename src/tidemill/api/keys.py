"""/v0/keys: the server's key ring and the keys that sign its tokens, by their ids.

For admins of the workspace that the server began with.
"""

from collections.abc import Sequence
from dataclasses import asdict
from functools import partial

from fastapi import APIRouter
from starlette.responses import Response

from tidemill.api.auth import Asked
from tidemill.api.calls import json_answer
from tidemill.api.wire import Json, timestamp
from tidemill.service import key_rotation, signing_keys
from tidemill.service.key_rotation import Keys
from tidemill.store.signing_keys import SigningKey

router = APIRouter(prefix="/v0/keys")


@router.get("")
async def list_keys(call: Asked) -> Response:
    ring = await call.run(partial(key_rotation.show, call.parts, call.principal))
    signing = await call.run(partial(signing_keys.show, call.parts, call.principal, now=call.now))
    return json_answer(_ring_view(ring) | _signing_view(signing))


@router.post("/rotate")
async def rotate_keys(call: Asked, drop: bool = False) -> Response:
    step = key_rotation.drop if drop else key_rotation.rotate
    return json_answer(_ring_view(await call.run(partial(step, call.parts, call.principal, now=call.now))))


@router.post("/signing/rotate")
async def rotate_signing_keys(call: Asked) -> Response:
    found = await call.run(partial(signing_keys.rotate, call.parts, call.principal, now=call.now))
    return json_answer(_signing_view(found))


@router.delete("/signing/{kid}")
async def end_signing_key(call: Asked, kid: str) -> Response:
    found = await call.run(partial(signing_keys.end, call.parts, call.principal, kid, now=call.now))
    return json_answer(_signing_view(found))


def _ring_view(keys: Keys) -> dict[str, Json]:
    return {
        "keys": [asdict(key) for key in keys.keys],
        "unopened": [asdict(each) for each in keys.unopened],
        "done": keys.done,
        "made": keys.made,
    }


def _signing_view(found: Sequence[SigningKey]) -> dict[str, Json]:
    """``verifiesUntil`` is null for the one that signs."""
    return {
        "signing": [
            {
                "id": key.kid,
                "active": key.ends_at is None,
                "createdAt": timestamp(key.created_at),
                "verifiesUntil": None if key.ends_at is None else timestamp(key.ends_at),
            }
            for key in found
        ]
    }
