"""PUT /uploads/CAPABILITY: a source archive arrives. The path is the credential (docs/wire.md, 5.3)."""

import hashlib
import tempfile
from functools import partial
from io import FileIO
from pathlib import Path
from typing import Final

from fastapi import APIRouter, Request
from starlette.exceptions import HTTPException
from starlette.responses import Response

from tidemill.api.calls import Context, announced_length, context_of, json_answer
from tidemill.model.errors import Invalid, TooLarge
from tidemill.service import uploads
from tidemill.service.uploads import Arrived

router = APIRouter()

_BUFFER_BYTES: Final = 1 << 20


@router.put("/uploads/{capability}")
async def put_source(request: Request, capability: str) -> Response:
    context = context_of(request)
    length = announced_length(request)
    limit = context.parts.limits.upload_bytes
    if length is None:
        raise HTTPException(411, "an upload needs its Content-Length")
    if length > limit:
        raise TooLarge(f"the archive has {length} bytes; an upload may have up to {limit}")
    await context.run(partial(uploads.begin, context.parts, capability, now=context.clock()))
    with tempfile.TemporaryDirectory(dir=context.parts.arrivals, prefix="upload-") as folder:
        arrived = await _receive(context, request, Path(folder) / "source.zip", length)
        await context.run(partial(uploads.accept, context.parts, capability, arrived, now=context.clock()))
    return json_answer({"message": "the source has arrived and will be built"})


async def _receive(context: Context, request: Request, path: Path, length: int) -> Arrived:
    """Write the body to ``path``. Raises TooLarge or Invalid when it is not as long as it said."""
    digest = hashlib.sha256()
    size, held = 0, bytearray()
    with path.open("wb", buffering=0) as file:
        async for chunk in request.stream():
            held += chunk
            size += len(chunk)
            if size > length:
                raise TooLarge(f"the body is longer than its Content-Length of {length} bytes")
            if len(held) >= _BUFFER_BYTES:
                await context.run(partial(_keep, file, digest, bytes(held)))
                held.clear()
        await context.run(partial(_keep, file, digest, bytes(held)))
    if size != length:
        raise Invalid(f"the body has {size} bytes, but its Content-Length says {length}")
    return Arrived(path=path, digest=digest.hexdigest(), size_bytes=size)


def _keep(file: FileIO, digest: "hashlib._Hash", data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[file.write(view) :]
    digest.update(data)
