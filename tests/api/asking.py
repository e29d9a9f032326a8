"""Asks the real application over ASGI, on a real SQLite file, with a clock that the test moves and no engine."""

import asyncio
import io
import json
import zipfile
from collections.abc import Callable, Coroutine, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, TypeVar

import httpx2
from fastapi import FastAPI
from sqlalchemy import select

from tidemill.api import app as app_module
from tidemill.api.calls import Context
from tidemill.api.limits import Rates
from tidemill.blobs import Blobs
from tidemill.blobs.logfiles import LogFiles
from tidemill.model.ids import AttemptId, BuildKey, ExecutionKey, NodeId, OwnerKind
from tidemill.model.lease import BuildLease, Event, EventKind, NodeInfo, Outcome, OutcomeKind
from tidemill.model.outlook import NodeOutlook, Outlook, Waiter
from tidemill.model.principal import PrincipalKind, Role
from tidemill.model.region import Regions
from tidemill.scheduler.leases import LeaseMaker
from tidemill.scheduler.policy import SchedulerPolicy
from tidemill.secrets import KeyRing
from tidemill.service import first_start
from tidemill.service.parts import Limits, Parts
from tidemill.store import api_keys, deploys, executions, ledger_claim, ledger_settle, nodes
from tidemill.store import identity as stored_identity
from tidemill.store.api_keys import ApiKey
from tidemill.store.database import Connection, Database
from tidemill.store.deploys import StoredImage
from tidemill.store.identity import Account
from tidemill.store.ledger_claim import TaskClaim
from tidemill.store.schema import build, job, revision

T = TypeVar("T")

NODE = NodeId("local")
PAGED = "2026-04-28"
ADMIN = "tm_admin_key_of_the_tests"
MEMBER = "tm_member_key_of_the_tests"
UNLIMITED = app_module.Edge(rates=Rates(unauthenticated_per_s=0))
STRANGER = "tm_admin_of_another_workspace"
_SHARED: list[FastAPI] = []


@dataclass
class Api:
    """A server without an engine. Requests run one after the other."""

    parts: Parts
    context: Context
    now: list[datetime]
    headers: dict[str, str] = field(
        default_factory=lambda: {"Authorization": f"Bearer {ADMIN}", "Blaxel-Version": PAGED}
    )
    runner: asyncio.Runner = field(default_factory=asyncio.Runner)
    served: tuple[Context, httpx2.ASGITransport] | None = None
    edge: app_module.Edge = UNLIMITED  # tests/api/test_limits.py is about the limits

    def request(self, method: str, path: str, **options: Any) -> httpx2.Response:
        """One request with the admin's key, the current version, and what ``headers`` adds or (None) removes."""
        headers = {**self.headers, **(options.pop("headers", None) or {})}
        headers = {name: value for name, value in headers.items() if value is not None}

        async def send(client: httpx2.AsyncClient) -> httpx2.Response:
            return await client.request(method, path, headers=headers, **options)

        return self.session(send)

    def session(self, work: Callable[[httpx2.AsyncClient], Coroutine[Any, Any, T]]) -> T:
        """Run ``work`` with a client that sends no headers of its own."""

        async def run() -> T:
            async with httpx2.AsyncClient(transport=self.transport(), base_url="http://tide.test") as client:
                return await work(client)

        return self.runner.run(run())

    def transport(self) -> httpx2.ASGITransport:
        """Of the application as the present context makes it."""
        shared = _pointed(self.context) if self.edge is UNLIMITED else None
        if self.served is None or self.served[0] is not self.context:
            app = shared or app_module.build(self.context, self.edge)
            self.served = (self.context, httpx2.ASGITransport(app=app))
        return self.served[1]

    def close(self) -> None:
        self.runner.close()
        self.parts.database.close()

    def limit(self, **limits: int) -> None:
        """Serve with other limits from now on."""
        self.parts = replace(self.parts, limits=replace(self.parts.limits, **limits))
        self.context = replace(self.context, parts=self.parts)

    def regions(self, *names: str) -> None:
        """Serve with these regions configured from now on; the first is the default."""
        self.parts = replace(self.parts, regions=Regions(names=names, default=names[0]))
        self.context = replace(self.context, parts=self.parts)

    def get(self, path: str, **options: Any) -> httpx2.Response:
        return self.request("GET", path, **options)

    def post(self, path: str, body: object = None, **options: Any) -> httpx2.Response:
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        return self.request("POST", path, content=content, **options)

    def put(self, path: str, body: object = None, **options: Any) -> httpx2.Response:
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        return self.request("PUT", path, content=content, **options)

    def delete(self, path: str, **options: Any) -> httpx2.Response:
        return self.request("DELETE", path, **options)

    def later(self, seconds: float) -> None:
        """Move the server's clock."""
        self.now[0] += timedelta(seconds=seconds)

    def person(self, email: str, role: Role, key: str, workspace: str = "main") -> str:
        """Somebody with this role and API key; the id of the account. A person that is there gets another workspace."""

        def unit(connection: Connection) -> str:
            account = stored_identity.find_account(connection, email)
            if account is None:
                account = Account(id=f"user-{email}", email=email, created_at=self.now[0])
                stored_identity.add_account(connection, account)
                new = ApiKey(
                    id=f"key-{email}",
                    owner_kind=PrincipalKind.USER,
                    owner=account.id,
                    name="first",
                    prefix=key[:8],
                    created_at=self.now[0],
                    created_by=account.id,
                )
                api_keys.add(connection, new, self.parts.keyring.api_key_digest(key))
            stored_identity.set_role(connection, account.id, workspace, role, now=self.now[0])
            return account.id

        return self.parts.database.write(unit)

    # what the scheduler does, done by hand

    def builds(self) -> list[Any]:
        rows = self.parts.database.read(
            lambda connection: connection.execute(build.select().order_by(build.c.created_at)).all()
        )
        return list(rows)

    def build_key(self) -> BuildKey:
        """The newest build."""
        return BuildKey(self.builds()[-1].key)

    def finish_build(
        self, key: BuildKey | None = None, manifest: Mapping[str, object] | None = None, reference: str = ""
    ) -> str:
        """End a build as the scheduler does when its image is stored; the digest of the image."""
        digest = f"{len(self.builds()):064x}"
        which = self.build_key() if key is None else key
        image = StoredImage(digest=digest, size_bytes=1, reference=reference)
        self.parts.database.write(
            lambda connection: deploys.finish_build(
                connection, which, image=image, manifest=manifest or {}, now=self.now[0]
            )
        )
        return digest

    def fail_build(self, message: str) -> None:
        key = self.build_key()
        self.parts.database.write(
            lambda connection: deploys.fail_build(connection, key, message=message, now=self.now[0])
        )

    def build_lease(self) -> BuildLease:
        """What the scheduler would give a node for the newest build."""
        policy = SchedulerPolicy(task_url="http://t/v0", run_url="http://t")
        maker = LeaseMaker(database=self.parts.database, keyring=self.parts.keyring, policy=policy)
        (lease,) = maker.make([AttemptId(OwnerKind.BUILD, self.build_key(), 0, 1)]).leases
        assert isinstance(lease, BuildLease)
        return lease

    def drop_expired(self) -> int:
        """What the scheduler does about once a minute."""
        return self.parts.database.write(lambda connection: deploys.drop_expired(connection, self.now[0]))

    def with_public_url(self, url: str) -> Context:
        return replace(self.context, public_url=url)

    def node(self, memory_mb: int = 4_000, *, id: NodeId = NODE, region: str = "local") -> None:  # noqa: A002
        """A node was seen."""
        info = NodeInfo(id=id, region=region, memory_mb=memory_mb, slots=64, incarnation="i")
        self.parts.database.write(lambda connection: nodes.seen(connection, [info], now=self.now[0]))

    def looks(self, *infos: NodeInfo, cleared_for: Waiter | None = None, **facts: Any) -> None:
        """How things look to the scheduler from now on; a keyword per node says what is wrong with it.

        The first node is ``cleared_for`` somebody.
        """
        nodes = tuple(NodeOutlook(info=info, trouble=facts.pop(info.id, "")) for info in infos)
        nodes = tuple(replace(node, cleared_for=cleared_for if node is nodes[0] else None) for node in nodes)
        outlook = Outlook(looked_at=self.now[0], nodes=nodes, **facts)
        self.context = replace(self.context, outlook=lambda: outlook)

    def key(self, execution: str) -> ExecutionKey:
        found = self.parts.database.read(lambda connection: executions.find(connection, "main", execution))
        return found.key

    def run_task(self, execution: str, index: int) -> None:
        """Claim tasks up to ``index``, which all begin to run."""
        self.node()
        self.claim(execution, index + 1)
        for each in range(index + 1):
            self.report(execution, each, EventKind.STARTED, None)

    def claim(self, execution: str, count: int) -> None:
        """Claim so many tasks more."""
        claims = [TaskClaim(execution=self.key(execution), node=NODE, count=count)]
        now = self.now[0]
        term = self.parts.database.write(lambda connection: nodes.take_term(connection, "t", holder="test", now=now))
        self.parts.database.write(lambda connection: ledger_claim.claim(connection, claims, term=term, now=now))

    def end_task(self, execution: str, index: int, kind: OutcomeKind = OutcomeKind.SUCCEEDED, **facts: Any) -> None:
        """The first attempt of a running task ends."""
        outcome = Outcome(kind=kind, ended_at=self.now[0].timestamp(), **facts)
        self.report(execution, index, EventKind.ENDED, outcome)

    def report(self, execution: str, index: int, kind: EventKind, outcome: Outcome | None) -> None:
        attempt = AttemptId(OwnerKind.TASK, self.key(execution), index, 1)
        event = Event(number=1, attempt=attempt, kind=kind, at=self.now[0].timestamp(), outcome=outcome)
        report = ledger_settle.Report(node=NODE, events=[event])
        self.parts.database.write(
            lambda connection: ledger_settle.settle(connection, report, now=self.now[0], jitter=lambda: 1.0)
        )

    def revisions(self, name: str) -> list[str]:
        """Ids of the revisions that are kept, oldest first."""
        query = (
            select(revision.c.id)
            .join(job, job.c.key == revision.c.job)
            .where(job.c.name == name)
            .order_by(revision.c.number)
        )
        return self.parts.database.read(lambda connection: list(connection.scalars(query)))

    def upload(self, answer: httpx2.Response, content: bytes | None = None) -> httpx2.Response:
        """Send a source archive to where ``answer`` says."""
        path = answer.headers["X-Blaxel-Upload-Url"].removeprefix("http://tide.test")
        headers: dict[str, Any] = {"Authorization": None, "Blaxel-Version": None}
        return self.request("PUT", path, content=archive() if content is None else content, headers=headers)

    def deployed(self, name: str = "sweep", **runtime: object) -> dict[str, Any]:
        """A job with an active revision."""
        answer = self.post("/v0/jobs?upload=true", {"metadata": {"name": name}, "spec": {"runtime": runtime}})
        assert answer.status_code == 200, answer.text
        assert self.upload(answer).status_code == 200
        self.finish_build()
        job = self.get(f"/v0/jobs/{name}").json()
        assert job["status"] == "DEPLOYED"
        found: dict[str, Any] = job
        return found


def _pointed(context: Context) -> FastAPI:
    """The one application of all tests of a process, over this context: its routes take longer to make than a test."""
    if not _SHARED:
        _SHARED.append(app_module.build(context, UNLIMITED))
    app = _SHARED[0]
    if app.state.context is not context:
        app.state.context = context
        for layer in app.user_middleware:
            if "context" in layer.kwargs:
                layer.kwargs["context"] = context
        app.middleware_stack = None  # made anew from these at the next request
    return app


def archive(files: Mapping[str, str] | None = None) -> bytes:
    """A zip of a small project."""
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as zipped:
        for name, text in (files or {"blaxel.toml": '[entrypoint]\nprod = "/bin/true"\n'}).items():
            zipped.writestr(zipfile.ZipInfo(name), text)  # its fixed date: the same bytes whenever it is made
    return packed.getvalue()


def opened(folder: Path, keyring: KeyRing | None = None) -> Api:
    """A fresh server on ``folder``: workspaces main (an admin, a member) and other (an admin)."""
    arrivals = folder / "arrivals"
    arrivals.mkdir()
    parts = Parts(
        database=Database(folder / "tidemill.db", synchronous="OFF"),  # no test cuts the power
        keyring=keyring or KeyRing.generate(),
        blobs=Blobs(folder / "blobs"),
        logfiles=LogFiles(folder / "logs"),
        arrivals=arrivals,
        limits=Limits(),
        home="main",
    )
    now = [datetime(2026, 11, 23, 12, 0, tzinfo=UTC)]
    first_start.ensure_key(parts.database, parts.keyring, "main", ADMIN, now=now[0])
    first_start.ensure_key(parts.database, parts.keyring, "other", STRANGER, now=now[0])
    api = Api(parts, Context(parts=parts, clock=lambda: now[0], problem=lambda: None), now)
    api.person("member@example.org", Role.MEMBER, MEMBER)
    return api
