"""One request to the provider. Bounded in time and size, never redirected; the answer is a JSON object."""

import socket
import ssl
import threading
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from typing import Any, Final, Self
from urllib.parse import quote_plus, urlsplit

import httpx2
import msgspec

from tidemill.model.provider_url import LONGEST, is_loopback

MOST_BYTES: Final = 1 << 20
"""Of one answer. Documents of big providers have some ten KB."""


class ProviderFailed(Exception):
    """The provider cannot be reached, or does not answer as it must. The text is for the log and holds no secret."""


@dataclass(frozen=True, slots=True)
class Answer:
    status: int
    members: Mapping[str, Any]


def ask(
    url: str,
    timeout_s: float,
    *,
    form: Mapping[str, str] | None = None,
    client: tuple[str, str] | None = None,
    bearer: str = "",
) -> Answer:
    """GET, or POST where there is a ``form``; the whole takes no longer than ``timeout_s`` once it is connected.

    ``client`` is an id and a secret, sent as RFC 6749, section 2.3.1, wants it: form-encoded, then HTTP Basic.
    Raises ProviderFailed for what is no JSON object, whatever its status, and for every status from 500 on.
    """
    where = _shown(url)
    # the proxies that the environment names are for the world outside
    outside = not is_loopback(urlsplit(url).hostname or "")
    headers = {"Accept": "application/json", "Accept-Encoding": "identity", "User-Agent": "tidemill"}
    if bearer:
        headers["Authorization"] = f"Bearer {bearer}"
    auth = None if client is None else httpx2.BasicAuth(*map(quote_plus, client))
    try:
        with _Watch(timeout_s) as watch, httpx2.Client(timeout=timeout_s, trust_env=outside, verify=_trusted()) as http:
            request = http.build_request(
                "GET" if form is None else "POST", url, data=form, headers=headers, extensions={"trace": watch.trace}
            )
            response = http.send(request, stream=True, auth=auth, follow_redirects=False)
            try:
                return _read(response, where)
            finally:
                response.close()
    except (httpx2.HTTPError, httpx2.InvalidURL, httpx2.StreamError, ValueError, OSError) as error:
        # the class alone: the text of some repeats what was sent
        raise ProviderFailed(f"{where}: {type(error).__name__}") from error


@cache
def _trusted() -> ssl.SSLContext:
    """The machine's certificates, or those that SSL_CERT_FILE names: reading them takes longer than a request."""
    return httpx2.create_ssl_context()


class _Watch:
    """Cuts the connection when the time is up: a timeout of a read begins anew with every byte that comes."""

    def __init__(self, limit_s: float) -> None:
        self._timer = threading.Timer(limit_s, self._cut)
        self._timer.daemon = True
        self._lock = threading.Lock()
        self._is_over = False
        self._socket: socket.socket | None = None

    def __enter__(self) -> Self:
        self._timer.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._timer.cancel()

    def trace(self, event: str, info: Mapping[str, Any]) -> None:
        """What httpx2 calls at every step of a request: here it is told of the socket."""
        if not event.endswith(("connect_tcp.complete", "start_tls.complete")):
            return
        with self._lock:
            self._socket = info["return_value"].get_extra_info("socket")
            is_over = self._is_over
        if is_over:
            self._cut()

    def _cut(self) -> None:
        with self._lock:
            self._is_over = True
            if self._socket is not None:
                with suppress(OSError):  # closed already
                    self._socket.shutdown(socket.SHUT_RDWR)


def _read(response: httpx2.Response, where: str) -> Answer:
    if response.status_code >= 500 or 300 <= response.status_code < 400:
        raise ProviderFailed(f"{where}: status {response.status_code}")
    if response.headers.get("Content-Encoding", "identity").lower() != "identity":
        raise ProviderFailed(f"{where}: an encoding that was not asked for")
    held = bytearray()
    for chunk in response.iter_raw():
        held += chunk
        if len(held) > MOST_BYTES:
            raise ProviderFailed(f"{where}: more than {MOST_BYTES} bytes")
    try:
        members = msgspec.json.decode(held)
    except (msgspec.MsgspecError, ValueError, RecursionError):
        members = None
    if not isinstance(members, dict):
        raise ProviderFailed(f"{where}: status {response.status_code}, and no JSON object")
    return Answer(response.status_code, members)


def _shown(url: str) -> str:
    """Without its query, which may hold what is nobody's business."""
    return url.partition("?")[0][:LONGEST]
