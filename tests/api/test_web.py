"""The HTTP server sleeps while nobody asks, and ends as soon as it is told to."""

import socket
import threading
from collections.abc import Iterator
from dataclasses import dataclass

import httpx2
import pytest
import uvicorn
from starlette.responses import PlainTextResponse

from tidemill.api.web import Web

NEVER_S = 3_600.0


class Watched(Web):
    """Counts how often it looks."""

    looks = 0

    async def on_tick(self, counter: int) -> bool:
        self.looks += 1
        return await super().on_tick(counter)


@dataclass(frozen=True)
class Served:
    web: Watched
    listener: socket.socket
    thread: threading.Thread

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.listener.getsockname()[1]}/"


@pytest.fixture
def served() -> Iterator[Served]:
    config = uvicorn.Config(PlainTextResponse("here"), loop="uvloop", lifespan="off", log_config=None)
    web, listener = Watched(config, NEVER_S), socket.create_server(("127.0.0.1", 0))
    thread = threading.Thread(target=web.run, kwargs={"sockets": [listener]}, daemon=True)
    yield Served(web, listener, thread)
    web.end()
    thread.join(20)
    listener.close()


def test_it_looks_when_it_begins_and_when_it_is_told_to_end(served: Served) -> None:
    served.thread.start()
    answer = httpx2.get(served.url)  # the socket listens already: it is answered once the server runs
    assert (answer.text, "date" in answer.headers) == ("here", True)
    served.web.end()
    served.thread.join(20)
    assert not served.thread.is_alive()
    assert served.web.looks == 2


def test_told_before_it_runs_it_does_not_begin(served: Served) -> None:
    served.web.end()
    served.thread.start()
    served.thread.join(20)
    assert not served.thread.is_alive()
    assert served.web.looks <= 1


def test_told_again_it_has_ended(served: Served) -> None:
    served.thread.start()
    httpx2.get(served.url)
    for _ in range(2):
        served.web.end()
        served.thread.join(20)
    assert not served.thread.is_alive()
