"""A real receiver on loopback: it counts who comes, keeps what they send, and answers as a script says."""

import contextlib
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

Script = Callable[[socket.socket], None]
"""What is done with a connection once the request has been read."""


@dataclass(slots=True)
class Receiver:
    """``heard`` are the requests, each as its bytes. ``visits`` counts connections, said they anything or not."""

    port: int
    heard: list[bytes] = field(default_factory=list)
    visits: int = 0


def answer(status: int, *lines: str, body: bytes = b"") -> Script:
    head = "\r\n".join((f"HTTP/1.1 {status} X", f"Content-Length: {len(body)}", *lines))
    return lambda connection: connection.sendall(f"{head}\r\n\r\n".encode() + body)


@contextmanager
def receiving(
    script: Script, *, tls: ssl.SSLContext | None = None, at: tuple[str, int] = ("", 0), threads: bool = False
) -> Iterator[Receiver]:
    """Listen on an address of IPv4, or on all that this machine has. One after the other, or a thread each."""
    with _listener(*at) as listener:
        found = Receiver(port=listener.getsockname()[1])
        thread = threading.Thread(target=_serve, args=(listener, found, _Manners(script, tls, threads)))
        thread.start()
        try:
            yield found
        finally:
            # a close alone would leave the thread in accept
            listener.shutdown(socket.SHUT_RDWR)
            thread.join()


def _listener(host: str, port: int) -> socket.socket:
    if host or not socket.has_dualstack_ipv6():
        return socket.create_server((host, port))
    return socket.create_server(("", port), family=socket.AF_INET6, dualstack_ipv6=True)


@dataclass(frozen=True, slots=True)
class _Manners:
    script: Script
    tls: ssl.SSLContext | None
    threads: bool


def _serve(listener: socket.socket, found: Receiver, manners: _Manners) -> None:
    started = list[threading.Thread]()
    while True:
        try:
            connection, _ = listener.accept()
        except OSError:
            break
        found.visits += 1
        talk = threading.Thread(target=_talk, args=(connection, found, manners))
        talk.start()
        if manners.threads:
            started.append(talk)
        else:
            talk.join()
    for talk in started:
        talk.join()


def _talk(connection: socket.socket, found: Receiver, manners: _Manners) -> None:
    # whoever goes away in the middle is what half of these tests are about
    with contextlib.suppress(OSError), connection, _secured(connection, manners.tls) as talk:
        found.heard.append(_request(talk))
        manners.script(talk)


def _secured(connection: socket.socket, tls: ssl.SSLContext | None) -> socket.socket:
    return connection if tls is None else tls.wrap_socket(connection, server_side=True)


def _request(talk: socket.socket) -> bytes:
    data = b""
    while (length := _length(data)) is None or len(data) < length:
        part = talk.recv(65_536)
        if not part:
            raise ConnectionError("the request ended early")
        data += part
    return data


def _length(data: bytes) -> int | None:
    """How long the whole request is, once its head is there."""
    head, end, _ = data.partition(b"\r\n\r\n")
    if not end:
        return None
    sizes = [line for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:")]
    return len(head) + len(end) + (int(sizes[0].partition(b":")[2]) if sizes else 0)
