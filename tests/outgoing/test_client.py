"""Requests over real sockets: to what was checked and nowhere else, and within limits that hold for all of one.

``test_each_of_these_reaches_a_server_that_does_not_look`` sends the same attacks with a plain client: they are real.
"""

import ipaddress
import itertools
import socket
import ssl
import threading
import time
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx2
import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from tests.outgoing.receiver import Receiver, Script, answer, receiving
from tidemill.model.addresses import Allowed
from tidemill.outgoing.client import Client, Limits, NotSent
from tidemill.outgoing.guard import Guard, Refused

LOOPBACK = ("127.0.0.0/8", "::1")
DECADE = timedelta(days=3_650)


def always(*addresses: str) -> Guard:
    """Any name has these addresses; loopback is allowed."""
    return Guard(allowed=Allowed.parse(LOOPBACK), resolver=lambda _host, _port: addresses)


def client(guard: Guard, **limits: float) -> Client:
    bounds = Limits(**{"deadline_s": 20.0, **limits})  # type: ignore[arg-type]  # the test's own words
    return Client(guard=guard, steady=time.monotonic, limits=bounds)


def has_ipv6() -> bool:
    try:
        with socket.create_server(("::1", 0), family=socket.AF_INET6):
            return True
    except OSError:
        return False


ATTACKS = (
    *("127.0.0.1", "0.0.0.0", "127.1", "0x7f.1", "0x7f000001", "017700000001", "2130706433"),
    *("localhost", "user@127.0.0.1", "127。0。0。1", "example.com@127.0.0.1"),
    *(("[::1]", "[::]", "[::ffff:127.0.0.1]", "[::ffff:7f00:1]") if has_ipv6() else ()),
)


@pytest.mark.parametrize("host", ATTACKS)
def test_each_of_these_reaches_a_server_that_does_not_look(host: str) -> None:
    with receiving(answer(200)) as trap:
        httpx2.post(f"http://{host}:{trap.port}/", content=b"x", trust_env=False)
        assert trap.visits == 1


@pytest.mark.parametrize("host", ATTACKS)
def test_none_of_these_reaches_anything(host: str) -> None:
    with receiving(answer(200)) as trap:
        with pytest.raises(Refused):
            client(Guard()).post(f"http://{host}:{trap.port}/", b"x", {})
        assert trap.visits == 0


@pytest.mark.parametrize("addresses", [("127.0.0.1",), ("8.8.8.8", "127.0.0.1"), ("::ffff:127.0.0.1",), ("0.0.0.0",)])
def test_a_name_that_leads_inside_is_not_connected_to(addresses: Sequence[str]) -> None:
    guard = Guard(resolver=lambda _host, _port: addresses)
    with receiving(answer(200)) as trap:
        with pytest.raises(Refused):
            client(guard).post(f"http://hook.example:{trap.port}/", b"x", {})
        assert trap.visits == 0


def test_the_connection_goes_to_the_address_that_was_checked_not_to_a_second_look() -> None:
    with receiving(answer(200)) as checked, receiving(answer(200)) as second:
        looks = iter([["127.0.0.1"]])
        guard = Guard(allowed=Allowed.parse(LOOPBACK), resolver=lambda _host, _port: next(looks))
        assert client(guard).post(f"http://hook.example:{checked.port}/a?b", b"{}", {"X-Mine": "1"}) == 200
        assert next(looks, None) is None
        assert second.visits == 0
    (heard,) = checked.heard
    head, _, body = heard.partition(b"\r\n\r\n")
    assert head.startswith(b"POST /a?b HTTP/1.1\r\n")
    assert f"Host: hook.example:{checked.port}".encode() in head.split(b"\r\n")
    assert b"X-Mine: 1" in head.split(b"\r\n")
    assert body == b"{}"


@pytest.mark.skipif(not has_ipv6(), reason="nothing can listen on ::1 here")
def test_an_address_of_ipv6_is_written_with_brackets() -> None:
    with receiving(answer(200)) as receiver:
        assert client(always()).post(f"http://[::1]:{receiver.port}/", b"", {}) == 200
    assert f"Host: [::1]:{receiver.port}\r\n".encode() in receiver.heard[0]


@pytest.mark.parametrize("addresses", [("127.0.0.3", "127.0.0.2"), ("127.0.0.2", "127.0.0.3"), ("127.0.0.3",)])
def test_all_addresses_are_tried_in_order(addresses: Sequence[str]) -> None:
    with receiving(answer(204), at=("127.0.0.3", 0)) as receiver:
        assert client(always(*addresses)).post(f"http://hook.example:{receiver.port}/", b"", {}) == 204
        assert receiver.visits == 1


def test_a_receiver_that_is_not_there_is_said() -> None:
    with receiving(answer(204), at=("127.0.0.3", 0)) as receiver, pytest.raises(NotSent, match="no connection"):
        client(always("127.0.0.2", "127.0.0.4")).post(f"http://hook.example:{receiver.port}/", b"", {})


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_a_redirect_is_an_answer_and_is_not_followed(status: int) -> None:
    with receiving(answer(200)) as inside:
        lines = f"Location: http://127.0.0.1:{inside.port}/"
        with receiving(answer(status, lines)) as receiver:
            assert client(always("127.0.0.1")).post(f"http://hook.example:{receiver.port}/", b"", {}) == status
        assert inside.visits == 0


def test_proxies_of_the_environment_are_not_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    with receiving(answer(200)) as receiver, receiving(answer(200)) as proxy:
        for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
            monkeypatch.setenv(name, f"http://127.0.0.1:{proxy.port}")
        assert httpx2.post(f"http://hook.example:{receiver.port}/").status_code == 200
        assert (proxy.visits, receiver.visits) == (1, 0)
        assert client(always("127.0.0.1")).post(f"http://hook.example:{receiver.port}/", b"", {}) == 200
        assert (proxy.visits, receiver.visits) == (1, 1)


def drip(chunk: bytes, closed: threading.Event, head: bytes = b"") -> Script:
    """Send a little again and again, so that no single read ever waits for long."""

    def script(connection: socket.socket) -> None:
        connection.sendall(head)
        try:
            while not closed.wait(0.01):
                connection.sendall(chunk)
        finally:
            closed.set()

    return script


@pytest.mark.parametrize(
    ("head", "chunk"),
    [
        (b"", b"H"),
        (b"HTTP/1.1 200 OK\r\n", b"X: y\r\n"),
        (b"", b"HTTP/1.1 102 Processing\r\n\r\n"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n", b"z"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", b"1\r\nz\r\n"),
    ],
)
def test_the_time_of_an_answer_counts_as_a_whole(head: bytes, chunk: bytes) -> None:
    """A clock that passes a second at every look: the fewer seconds, the fewer reads, whatever each brings."""
    clock = itertools.count()
    closed = threading.Event()
    with receiving(drip(chunk, closed, head)) as receiver:
        bounded = Client(guard=always("127.0.0.1"), steady=lambda: float(next(clock)), limits=Limits(deadline_s=30.0))
        try:
            with pytest.raises(NotSent, match=r"no whole answer within 30 s|the answer is not HTTP"):
                bounded.post(f"http://hook.example:{receiver.port}/", b"", {})
        finally:
            closed.set()
    assert next(clock) <= 32


def test_a_receiver_that_says_nothing_is_left_when_the_time_is_up() -> None:
    closed = threading.Event()

    def silent(_connection: socket.socket) -> None:
        closed.wait()

    with receiving(silent) as receiver:
        try:
            with pytest.raises(NotSent, match=r"no whole answer within 0\.2 s"):
                client(always("127.0.0.1"), deadline_s=0.2).post(f"http://hook.example:{receiver.port}/", b"", {})
        finally:
            closed.set()


def test_a_long_answer_is_not_read_to_its_end() -> None:
    sent: list[int] = []

    def flood(connection: socket.socket) -> None:
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000000\r\n\r\n")
        while True:
            connection.sendall(b"z" * 65_536)
            sent.append(65_536)

    with receiving(flood) as receiver, pytest.raises(NotSent, match="more than 100000 bytes"):
        client(always("127.0.0.1"), answer_bytes=100_000).post(f"http://hook.example:{receiver.port}/", b"", {})
    assert sum(sent) < 50_000_000


def test_packed_bytes_are_counted_as_they_come() -> None:
    """What unpacks to a thousand times its size is never unpacked."""
    with receiving(answer(200, "Content-Encoding: gzip", body=b"\x1f\x8b not even gzip")) as receiver:
        assert client(always("127.0.0.1")).post(f"http://hook.example:{receiver.port}/", b"", {}) == 200


@pytest.mark.parametrize("data", [b"", b"SSH-2.0-OpenSSH_9.2\r\n", b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhalf"])
def test_what_is_no_whole_answer_is_said(data: bytes) -> None:
    why = r"the answer is not HTTP|ended before the answer did"
    with receiving(lambda connection: connection.sendall(data)) as receiver, pytest.raises(NotSent, match=why):
        client(always("127.0.0.1")).post(f"http://hook.example:{receiver.port}/", b"", {})


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> tuple[ssl.SSLContext, ssl.SSLContext]:
    """A receiver's side of TLS with a certificate for hook.example, and a client's that trusts who signed it."""
    folder = tmp_path_factory.mktemp("tls")
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "receiver")])
    names = [x509.DNSName("hook.example"), x509.IPAddress(ipaddress.ip_address("127.0.0.5"))]
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder(issuer_name=name, subject_name=name, public_key=key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - DECADE)
        .not_valid_after(now + DECADE)
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, SHA256())
    )
    chain = _write(folder / "chain.pem", certificate.public_bytes(Encoding.PEM))
    secret = _write(
        folder / "key.pem", key.private_bytes(Encoding.PEM, PrivateFormat.TraditionalOpenSSL, NoEncryption())
    )
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(chain, secret)
    return server, ssl.create_default_context(cafile=chain)


def _write(path: Path, data: bytes) -> Path:
    path.write_bytes(data)
    return path


def over_tls(trust: ssl.SSLContext, receiver: Receiver, host: str) -> int:
    guard = always("127.0.0.1")
    bounds = Limits(deadline_s=1.0)  # what cannot be told apart from a receiver that thinks is waited for
    return Client(guard=guard, steady=time.monotonic, limits=bounds, tls=trust).post(
        f"https://{host}:{receiver.port}/", b"", {}
    )


def test_the_certificate_is_checked_against_the_name_and_the_name_is_what_the_receiver_hears(
    authority: tuple[ssl.SSLContext, ssl.SSLContext],
) -> None:
    server, trust = authority
    heard: list[str | None] = []
    server.sni_callback = lambda _connection, name, _context: heard.append(name)
    with receiving(answer(200), tls=server) as receiver:
        assert over_tls(trust, receiver, "hook.example") == 200
        assert over_tls(trust, receiver, "127.0.0.5") == 200
        for other in ("other.example", "127.0.0.1"):
            with pytest.raises(NotSent, match=r"the certificate is not good: .*mismatch"):
                over_tls(trust, receiver, other)
        with pytest.raises(NotSent, match="the certificate is not good"):
            over_tls(ssl.create_default_context(), receiver, "hook.example")
    assert heard[0] == "hook.example"
    assert len(receiver.heard) == 2


def test_a_receiver_without_tls_hears_nothing_but_a_greeting() -> None:
    with receiving(answer(200)) as receiver, pytest.raises(NotSent):
        over_tls(ssl.create_default_context(), receiver, "hook.example")
    assert receiver.heard == []
