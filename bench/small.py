"""Many executions of one task each, asked for by 32 clients: how many a second, from the first POST to the last end."""

import asyncio
import time
from collections.abc import Iterator
from typing import Final

import uvloop

from bench.ground import JOB, Ground, Watch
from bench.requests import ask, message
from bench.results import Round

CLIENTS: Final = 32


def rounds(ground: Ground, *, executions: int, count: int) -> list[Round]:
    return [_round(ground, executions) for _ in range(count)]


def _round(ground: Ground, executions: int) -> Round:
    watch = Watch(ground.http, JOB)
    port = int(ground.server.url.rsplit(":", 1)[1])
    headers = {"authorization": f"Bearer {ground.server.credentials['BL_API_KEY']}", "blaxel-version": "2026-04-28"}
    request = message("POST", f"/v0/jobs/{JOB}/executions", headers, b'{"tasks":[{}]}')
    begun = time.perf_counter()
    uvloop.run(_all(port, request, executions))
    answered = time.perf_counter() - begun
    watch.count(executions, seconds=300)
    return {
        "executions_a_second": executions / (time.perf_counter() - begun),
        "answers_a_second": executions / answered,
    }


async def _all(port: int, request: bytes, executions: int) -> None:
    left = iter(range(executions))
    await asyncio.gather(*(_client(port, request, left) for _ in range(CLIENTS)))


async def _client(port: int, request: bytes, left: Iterator[int]) -> None:
    """Asks on one connection until nothing is left."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        for _ in left:
            await ask(reader, writer, request)
    finally:
        writer.close()
