"""An OpenID provider over real HTTP that is right unless it is told to be wrong, in one way at a time.

It keeps to what a provider must do (a code is good once, for one client, one redirect URI and one PKCE verifier), so
that whatever signs in with it has done its part.
"""

import base64
import hashlib
import hmac
import json
import secrets
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Final
from urllib.parse import parse_qs, unquote_plus, urlencode, urlsplit

from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
from cryptography.hazmat.primitives.hashes import SHA256
from joserfc import jws
from joserfc.jwk import Key, RSAKey
from joserfc.jws import JWSRegistry

CLIENT: Final = "tidemill"
SECRET: Final = "s3cret of the client: %&+"
REDIRECT: Final = "http://127.0.0.1:8700/login/oidc/callback"
SIGNS: Final = RSAKey.generate_key(2048, {"kid": "first"})
OTHER: Final = RSAKey.generate_key(2048, {"kid": "first"})
_SIGNING: Final = JWSRegistry(algorithms=["RS256", "PS512", "ES256", "Ed25519"], strict_check_header=False)


@dataclass(frozen=True, slots=True)
class Reply:
    """``trickles``: byte by byte, over some seconds. ``hangs``: no byte at all until the provider ends."""

    status: int = 200
    body: bytes = b"{}"
    headers: Mapping[str, str] = field(default_factory=lambda: {"Content-Type": "application/json"})
    trickles: bool = False
    hangs: bool = False


@dataclass
class Asked:
    method: str
    path: str
    headers: Mapping[str, str]
    form: Mapping[str, str]


@dataclass
class Rogue:
    """``says`` goes into its document, ``claims`` into ID tokens (None removes); ``replies`` take an answer's place."""

    url: str = ""
    now: Callable[[], datetime] = lambda: datetime.now().astimezone()
    secret: str = SECRET
    says: dict[str, object] = field(default_factory=dict)
    person: dict[str, object] = field(default_factory=dict)
    claims: dict[str, object] = field(default_factory=dict)
    header: dict[str, object] = field(default_factory=dict)
    userinfo: dict[str, object] = field(default_factory=dict)
    replies: dict[str, Reply] = field(default_factory=dict)
    keys: list[Mapping[str, object]] = field(default_factory=list)
    key: Key = field(default_factory=lambda: SIGNS)
    brings: dict[str, str] = field(default_factory=dict)
    token: dict[str, object] = field(default_factory=dict)
    sign: Callable[["Rogue", dict[str, Any], dict[str, Any]], str] | None = None
    asked: list[Asked] = field(default_factory=list)
    codes: dict[str, dict[str, str]] = field(default_factory=dict)
    over: threading.Event = field(default_factory=threading.Event)

    def reset(self) -> None:
        fresh = Rogue(url=self.url, over=self.over)
        for name in self.__dataclass_fields__:
            setattr(self, name, getattr(fresh, name))
        self.person = {"sub": "ada-1", "email": "ada@example.org", "email_verified": True}
        self.keys = [{**SIGNS.as_dict(private=False), "use": "sig"}]

    def count(self, path: str) -> int:
        return sum(each.path == path for each in self.asked)

    def document(self) -> dict[str, object]:
        found: dict[str, object] = {
            "issuer": self.url,
            "authorization_endpoint": f"{self.url}/authorize",
            "token_endpoint": f"{self.url}/token",
            "jwks_uri": f"{self.url}/keys",
            "userinfo_endpoint": f"{self.url}/userinfo",
        }
        return {name: value for name, value in {**found, **self.says}.items() if value is not None}

    def authorize(self, query: Mapping[str, str]) -> Reply:
        """Somebody is signed in here already and says yes."""
        assert query["response_type"] == "code"
        assert query["client_id"] == CLIENT
        assert query["code_challenge_method"] == "S256"
        assert "openid" in query["scope"].split()
        code = secrets.token_urlsafe(16)
        self.codes[code] = dict(query)
        back = {name: value for name, value in {"code": code, "state": query["state"], **self.brings}.items() if value}
        return Reply(302, b"", {"Location": f"{query['redirect_uri']}?{urlencode(back)}"})

    def exchange(self, asked: Asked) -> Reply:
        form = asked.form
        if not self._is_client(asked):
            return refusal("invalid_client", 401)
        begun = self.codes.pop(form["code"], None)
        challenge = base64.urlsafe_b64encode(hashlib.sha256(form["code_verifier"].encode()).digest()).rstrip(b"=")
        if begun is None or begun["redirect_uri"] != form["redirect_uri"]:
            return refusal("invalid_grant", 400)
        if begun["code_challenge"] != challenge.decode() or not 43 <= len(form["code_verifier"]) <= 128:
            return refusal("invalid_grant", 400)
        issued = int(self.now().timestamp())
        members: dict[str, Any] = {
            "iss": self.url,
            "aud": CLIENT,
            "iat": issued,
            "exp": issued + 300,
            "nonce": begun["nonce"],
            **self.person,
            **self.claims,
        }
        members = {name: value for name, value in members.items() if value is not None}
        header: dict[str, Any] = {"alg": "RS256", "kid": "first", **self.header}
        header = {name: value for name, value in header.items() if value is not None}
        token = (self.sign or signed)(self, header, members)
        answer = {"access_token": "the access token", "token_type": "Bearer", "id_token": token, **self.token}
        return as_json({name: value for name, value in answer.items() if value is not None})

    def _is_client(self, asked: Asked) -> bool:
        kind, _, value = asked.headers.get("Authorization", "").partition(" ")
        if kind == "Basic":
            user, _, password = base64.b64decode(value).decode().partition(":")
            return (unquote_plus(user), unquote_plus(password)) == (CLIENT, self.secret)
        return (asked.form.get("client_id"), asked.form.get("client_secret", "")) == (CLIENT, self.secret)

    def answer(self, asked: Asked, query: Mapping[str, str]) -> Reply:
        if asked.path in self.replies:
            return self.replies[asked.path]
        if asked.path == "/.well-known/openid-configuration":
            return as_json(self.document())
        if asked.path == "/authorize":
            return self.authorize(query)
        if asked.path == "/token" and asked.method == "POST":
            return self.exchange(asked)
        if asked.path == "/keys":
            return as_json({"keys": self.keys})
        if asked.path == "/userinfo" and asked.headers.get("Authorization") == "Bearer the access token":
            return as_json({"sub": self.person["sub"], **self.userinfo})
        return Reply(404)


def as_json(value: object) -> Reply:
    return Reply(body=json.dumps(value).encode())


def refusal(word: str, status: int) -> Reply:
    return Reply(status, json.dumps({"error": word, "error_description": "<b>text of the provider</b>"}).encode())


def signed(rogue: Rogue, header: dict[str, Any], members: dict[str, Any]) -> str:
    """As it must be, whatever the header and the members are."""
    return jws.serialize_compact(header, json.dumps(members).encode(), rogue.key, registry=_SIGNING)


def signed_as_it_stands(_: Rogue, header: dict[str, Any], members: dict[str, Any]) -> str:
    """RS256, past the checks of the library that signs."""
    text = f"{part(header)}.{part(members)}"
    signature = SIGNS.get_op_key("sign").sign(text.encode(), PKCS1v15(), SHA256())
    return f"{text}.{encoded(signature)}"


def unsigned(_: Rogue, header: dict[str, Any], members: dict[str, Any]) -> str:
    return f"{part({**header, 'alg': 'none'})}.{part(members)}."


def keyed(key: bytes) -> Callable[[Rogue, dict[str, Any], dict[str, Any]], str]:
    """HS256, as somebody may who knows what the client knows, or what all the world does."""

    def sign(_: Rogue, header: dict[str, Any], members: dict[str, Any]) -> str:
        text = f"{part({**header, 'alg': 'HS256'})}.{part(members)}"
        return f"{text}.{encoded(hmac.digest(key, text.encode(), 'sha256'))}"

    return sign


def part(members: object) -> str:
    return encoded(json.dumps(members).encode())


def encoded(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


@contextmanager
def running() -> Iterator[Rogue]:
    rogue = Rogue()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.serve("")

        def do_POST(self) -> None:
            self.serve(self.rfile.read(int(self.headers["Content-Length"])).decode())

        def serve(self, body: str) -> None:
            url = urlsplit(self.path)
            form, query = ({name: values[0] for name, values in parse_qs(text).items()} for text in (body, url.query))
            asked = Asked(self.command, url.path, dict(self.headers), form)
            rogue.asked.append(asked)
            with suppress(OSError):  # it did not wait for us
                self.send(rogue.answer(asked, query))

        def send(self, reply: Reply) -> None:
            if reply.hangs:
                rogue.over.wait(60)
                return
            self.send_response(reply.status)
            for name, value in {**reply.headers, "Content-Length": str(len(reply.body))}.items():
                self.send_header(name, value)
            self.end_headers()
            for byte in [reply.body[at : at + 1] for at in range(len(reply.body))] if reply.trickles else [reply.body]:
                self.wfile.write(byte)
                if reply.trickles and rogue.over.wait(0.02):
                    return

        def log_message(self, *_: object) -> None:
            """Nobody reads it."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    rogue.url = f"http://127.0.0.1:{server.server_port}"
    rogue.reset()
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    try:
        yield rogue
    finally:
        rogue.over.set()
        server.shutdown()
        thread.join()
        server.server_close()
