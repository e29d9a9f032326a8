"""/v0/keys: the key ring of the server, by the ids of its keys. For admins of the workspace that it began with."""

from dataclasses import asdict
from functools import partial

from fastapi import APIRouter
from starlette.responses import Response

from tidemill.api.auth import Asked
from tidemill.api.calls import json_answer
from tidemill.service import key_rotation
from tidemill.service.key_rotation import Keys

router = APIRouter(prefix="/v0/keys")


@router.get("")
async def list_keys(call: Asked) -> Response:
    return _answer(await call.run(partial(key_rotation.show, call.parts, call.principal)))


@router.post("/rotate")
async def rotate_keys(call: Asked, drop: bool = False) -> Response:
    step = key_rotation.drop if drop else key_rotation.rotate
    return _answer(await call.run(partial(step, call.parts, call.principal, now=call.now)))


def _answer(keys: Keys) -> Response:
    return json_answer({"keys": [asdict(key) for key in keys.keys], "done": keys.done, "made": keys.made})
