"""The server process: the only place where its parts are put together, and how it starts and ends."""

import fcntl
import gc
import json
import os
import random
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from types import FrameType
from typing import Final, Literal
from urllib.parse import urlsplit

import structlog
import uvicorn

from tidemill import logs
from tidemill.api import app, connections
from tidemill.api.calls import Context
from tidemill.api.connections import Patience
from tidemill.api.limits import Rates
from tidemill.api.web import Web
from tidemill.blobs import Blobs
from tidemill.blobs.logfiles import LogFiles
from tidemill.cli.exits import CommandError, usage
from tidemill.engine.local import LocalEngine
from tidemill.local_node import node_settings
from tidemill.model.addresses import Allowed
from tidemill.model.admission import Admission
from tidemill.model.errors import Conflict, EngineUnavailable, TidemillError
from tidemill.model.outlook import Outlook
from tidemill.model.principal import Role
from tidemill.model.region import Regions
from tidemill.node.isolation import opening
from tidemill.node.isolation.level import IsolationError
from tidemill.node.launcher import launcher_path
from tidemill.oidc.provider import Provider, Registration
from tidemill.outgoing.client import Client
from tidemill.outgoing.guard import Guard
from tidemill.scheduler.deliver import Deliverer, Tools
from tidemill.scheduler.loop import Scheduler
from tidemill.scheduler.policy import SchedulerPolicy
from tidemill.secrets import FILE_NAME, KeyRingError, write_private
from tidemill.service import first_start, jobs, key_check
from tidemill.service.parts import Limits, Parts
from tidemill.settings import Settings, SettingsError
from tidemill.store.database import DATABASE_NAME, Database

LOCK_NAME: Final = "server.lock"
CARD_NAME: Final = "server.json"

_FINISH_S: Final = 10
_KEEP_ALIVE_S: Final = 75
_BACKLOG: Final = 2_048
# how a wildcard address is reached from this machine
_LOOPBACKS: Final = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104
_LOG: Final = structlog.get_logger("tidemill.server")


@dataclass(frozen=True, slots=True, kw_only=True)
class _Running:
    """The parts that are stopped one after the other in the end."""

    parts: Parts
    engine: LocalEngine
    scheduler: Scheduler
    deliverer: Deliverer


class _Signals:
    """SIGTERM and Ctrl-C, counted: the first asks for an orderly end, the second ends what runs too."""

    def __init__(self) -> None:
        self._asked = threading.Event()
        self.count = 0
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._count)

    def wait(self) -> None:
        """Until the first signal, or ``end``."""
        # a wait without a limit would not let Python run the handler
        while not self._asked.wait(60):
            pass

    def end(self) -> None:
        """There is nothing left to wait for."""
        self._asked.set()

    def _count(self, _number: int, _frame: FrameType | None) -> None:
        self.count += 1
        self._asked.set()


def command(
    *,
    host: str | None = None,
    port: int | None = None,
    data_dir: Path | None = None,
    config: Path | None = None,
    engine: Literal["local"] | None = None,
    isolation: Literal["auto", "process", "sandbox", "container"] | None = None,
) -> None:
    """Serve the API and run the scheduler until SIGTERM or Ctrl-C; tasks that run then go on.

    Every setting is also a variable TIDEMILL_NAME and a line of the file that --config names (docs/settings.md).

    Parameters
    ----------
    host
        Address to listen on [default: 127.0.0.1].
    port
        Port to listen on; 0 picks a free one [default: 8700].
    data_dir
        Directory of everything the server keeps.
    config
        TOML file with settings.
    engine
        What supplies nodes [default: local].
    isolation
        How far tasks are confined [default: auto, as far as this machine can].
    """
    flags = {
        "host": host,
        "port": port,
        "data_dir": data_dir,
        "config": config,
        "engine": engine,
        "isolation": isolation,
    }
    try:
        settings = Settings.load(flags)
    except SettingsError as error:
        raise usage(str(error)) from error
    logs.configure(level=settings.log_level, form=settings.log_format)
    try:
        serve(settings)
    except (TidemillError, KeyRingError, IsolationError) as error:
        raise CommandError(str(error)) from error
    except OSError as error:
        raise CommandError(f"{error.strerror or error}: {error.filename or settings.data_dir}") from error


def serve(settings: Settings) -> None:
    """Run a server until a signal ends it. Raises OSError, Conflict when another one holds the data directory,

    and IsolationError when tasks cannot be confined as the settings ask for.
    """
    signals = _Signals()
    # the node would refuse as well, but nobody would read it
    opening.look(node_settings(settings), launcher_path())
    _make_directories(settings.data_dir)
    with ExitStack() as stack:
        stack.enter_context(_lock(settings.data_dir))
        _sweep_arrivals(settings.data_dir)
        listener = stack.enter_context(_listener(settings))
        url, local_url = _urls(settings, listener)
        stack.enter_context(_card(settings.data_dir, url))
        running = _put_together(settings, local_url)
        stack.callback(running.parts.database.close)
        context = Context(
            parts=running.parts,
            clock=_now,
            problem=_problems(running, signals),
            outlook=_outlook(running, signals),
            public_url=settings.public_url,
            plan=settings.plan,
            closing=lambda: signals.count > 0,
        )
        web = _web(context, settings)
        thread = threading.Thread(target=_run_web, args=(web, listener, signals), name="tidemill-http")
        _set_aside_what_stays()
        running.deliverer.start()
        running.scheduler.start()
        thread.start()
        try:
            _greet(url, web, thread)
            signals.wait()
        finally:
            # whatever went wrong: no thread of ours goes on behind a lock that is free
            _stop(running, web, thread, signals)


def _set_aside_what_stays() -> None:
    """Modules, routes and statements live as long as the server: a full garbage collection need not walk them.

    They are more than a hundred thousand objects, and one walk holds up every request for a tenth of a second or two.
    """
    gc.collect()
    gc.freeze()


def _now() -> datetime:
    return datetime.now(UTC)  # noqa: TID251 - the clock of requests, read once for each


def _make_directories(data_dir: Path) -> None:
    """The data directory: open to pass through, so that tasks of other users reach images; all in it is private."""
    data_dir.mkdir(parents=True, exist_ok=True)
    data_dir.chmod(0o711)
    arrivals = data_dir / "arrivals"
    arrivals.mkdir(exist_ok=True, mode=0o700)
    # SQLite gives its other files the mode of this one
    os.close(os.open(data_dir / DATABASE_NAME, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600))


@contextmanager
def _lock(data_dir: Path) -> Iterator[None]:
    descriptor = os.open(data_dir / LOCK_NAME, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise Conflict(
                f"another server holds {data_dir}; stop it with `tidemill stop`, or give this one another --data-dir"
            ) from None
        # the card of a server that was killed: its pid may be anybody's by now
        (data_dir / CARD_NAME).unlink(missing_ok=True)
        yield
    finally:
        os.close(descriptor)


@contextmanager
def _card(data_dir: Path, url: str) -> Iterator[None]:
    """Say who we are for as long as we are it: `tidemill stop` sends its signal to the pid that stands there."""
    card = data_dir / CARD_NAME
    write_private(card, json.dumps({"pid": os.getpid(), "url": url}))
    try:
        yield
    finally:
        card.unlink(missing_ok=True)


def _sweep_arrivals(data_dir: Path) -> None:
    """Remove what uploads left that a kill cut short; nothing refers to it."""
    for path in (data_dir / "arrivals").iterdir():
        path.unlink(missing_ok=True)


@contextmanager
def _listener(settings: Settings) -> Iterator[socket.socket]:
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    try:
        listener = socket.create_server((settings.host, settings.port), family=family, backlog=_BACKLOG)
    except OSError as error:
        raise Conflict(f"cannot listen on {settings.host} port {settings.port}: {error.strerror or error}") from error
    with listener:
        yield listener


def _urls(settings: Settings, listener: socket.socket) -> tuple[str, str]:
    """The origin that the server listens on, and the one under which this machine reaches it."""
    port = listener.getsockname()[1]
    hosts = settings.host, _LOOPBACKS.get(settings.host, settings.host)
    url, local_url = (f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}" for host in hosts)
    return url, local_url


def _put_together(settings: Settings, local_url: str) -> _Running:
    data_dir = settings.data_dir
    key_ring = settings.key_ring.get_secret_value() if settings.key_ring is not None else None
    parts = Parts(
        keyring=key_check.load(data_dir / DATABASE_NAME, data_dir / FILE_NAME, key_ring),
        database=Database(data_dir / DATABASE_NAME),
        blobs=Blobs(data_dir / "blobs"),
        logfiles=LogFiles(data_dir / "logs"),
        arrivals=data_dir / "arrivals",
        limits=_limits(settings),
        regions=Regions(names=settings.regions, default=settings.region),
        issuer=f"{settings.public_url or local_url}/v0",
        guard=Guard(allowed=Allowed.parse(settings.callback_allow)),
        key_file=None if key_ring else data_dir / FILE_NAME,
        home=settings.bootstrap_workspace,
        provider=_provider(settings, local_url),
        admission=_admission(settings),
    )
    key_check.keep(parts.database, parts.keyring)
    given = settings.bootstrap_api_key
    admin = first_start.ensure_admin(
        parts.database,
        parts.keyring,
        data_dir,
        workspace=settings.bootstrap_workspace,
        given_key=given.get_secret_value() if given is not None else "",
        now=_now(),
    )
    first_start.write_file(data_dir, admin, local_url)
    if admin.generated:
        sys.stderr.write(f"API key of {admin.workspace}'s admin, shown this once: {admin.api_key}\n")
    jobs.finish_deletes(parts, now=_now())
    engine = LocalEngine(node_settings(settings), parts.blobs.path)
    scheduler = Scheduler(
        database=parts.database,
        engine=engine,
        keyring=parts.keyring,
        blobs=parts.blobs,
        logfiles=parts.logfiles,
        policy=_policy(settings, local_url),
        regions=parts.regions,
    )
    return _Running(parts=parts, engine=engine, scheduler=scheduler, deliverer=_deliverer(parts))


def _deliverer(parts: Parts) -> Deliverer:
    client = Client(guard=parts.guard, steady=time.monotonic)
    return Deliverer(
        Tools(database=parts.database, keyring=parts.keyring, client=client, clock=_now, jitter=random.random)
    )


def _provider(settings: Settings, local_url: str) -> Provider | None:
    """Where a browser comes back to is an address of ours, never what a request's Host says."""
    if not settings.oidc_issuer:
        return None
    secret = settings.oidc_client_secret
    registration = Registration(
        name=settings.oidc_name or urlsplit(settings.oidc_issuer).hostname or settings.oidc_issuer,
        issuer=settings.oidc_issuer,
        client_id=settings.oidc_client_id,
        secret="" if secret is None else secret.get_secret_value(),
        redirect_uri=f"{settings.public_url or local_url}/login/oidc/callback",
        scopes=settings.oidc_scopes,
        timeout_s=settings.oidc_timeout_s,
    )
    return Provider(registration)


def _admission(settings: Settings) -> Admission:
    claim, _, value = settings.oidc_claim.partition("=")
    return Admission(
        domains=settings.oidc_domains,
        claim=claim,
        value=value,
        trusts_emails=settings.oidc_trusts_emails,
        workspace=settings.oidc_workspace,
        role=Role(settings.oidc_role),
    )


def _limits(settings: Settings) -> Limits:
    return Limits(
        tasks=settings.max_tasks,
        task_bytes=settings.max_task_bytes,
        execution_body_bytes=settings.max_execution_body_bytes,
        body_bytes=settings.max_body_bytes,
        upload_bytes=settings.max_upload_bytes,
        unpacked_bytes=settings.max_unpacked_bytes,
        unpacked_entries=settings.max_unpacked_entries,
        build_memory_mb=settings.build_memory_mb,
        build_timeout_s=settings.build_timeout_s,
    )


def _policy(settings: Settings, local_url: str) -> SchedulerPolicy:
    task_url = settings.task_url or f"{local_url}/v0"
    return SchedulerPolicy(
        task_url=task_url,
        run_url=task_url.removesuffix("/v0"),
        region=settings.region,
        grace_s=settings.kill_grace_s,
        retention_days=settings.retention_days,
        audit_retention_days=settings.audit_retention_days,
        home=settings.bootstrap_workspace,
        result_max_bytes=settings.max_result_bytes,
        disk_percent=settings.task_disk_percent,
        log_max_bytes=settings.max_attempt_log_bytes,
        unpacked_max_bytes=settings.max_unpacked_bytes,
        unpacked_max_entries=settings.max_unpacked_entries,
    )


def _problems(running: _Running, signals: _Signals) -> Callable[[], str | None]:
    def problem() -> str | None:
        if signals.count:
            return "the server is shutting down"
        return running.parts.database.problem or running.scheduler.problem() or running.engine.problem()

    return problem


def _outlook(running: _Running, signals: _Signals) -> Callable[[], Outlook]:
    def outlook() -> Outlook:
        seen = running.scheduler.outlook()
        closing = "the server is shutting down" if signals.count else ""
        return replace(seen, stopped=closing or running.parts.database.problem or seen.stopped)

    return outlook


def _edge(settings: Settings) -> app.Edge:
    rates = Rates(
        unauthenticated_per_s=settings.unauthenticated_per_s,
        authenticated_per_s=settings.authenticated_per_s,
        trusted_proxies=settings.trusted_proxies,
    )
    return app.Edge(rates=rates, origins=settings.cors_origins)


def _patience(settings: Settings) -> Patience:
    return Patience(
        head_s=settings.header_timeout_s,
        head_bytes=settings.max_header_bytes,
        headers=settings.max_headers,
        body_bytes_per_s=settings.min_body_bytes_per_s,
        answer_s=settings.answer_timeout_s,
    )


def _web(context: Context, settings: Settings) -> Web:
    config = uvicorn.Config(
        app.build(context, _edge(settings)),
        loop="uvloop",
        http=connections.protocol(_patience(settings)),
        lifespan="off",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        ws="none",
        timeout_keep_alive=_KEEP_ALIVE_S,
        timeout_graceful_shutdown=_FINISH_S,
    )
    return Web(config)


def _run_web(web: Web, listener: socket.socket, signals: _Signals) -> None:
    # in a thread of its own it leaves signals to us
    try:
        web.run(sockets=[listener])
    finally:
        signals.end()


def _greet(url: str, web: Web, thread: threading.Thread) -> None:
    while not web.started and thread.is_alive():
        time.sleep(0.005)
    if web.started:
        _say(f"tidemill ready {url}")


def _stop(running: _Running, web: Web, thread: threading.Thread, signals: _Signals) -> None:
    """Claim and deliver nothing more, let requests finish, commit what was reported, let go of the node or end it."""
    web.end()
    for told in (running.parts.database.news, running.parts.database.milestones):
        told.signal()  # streams of events look up and end
    running.deliverer.stop()
    running.scheduler.stop()
    thread.join()
    running.deliverer.join()
    if signals.count > 1:
        running.engine.close(stop_tasks=True)
        return
    try:
        detached = running.engine.detach()
    except EngineUnavailable as error:
        _LOG.warning("node not told", reason=error.message)
        return
    if signals.count > 1:
        running.engine.close(stop_tasks=True)
    elif detached is not None:
        _say(f"node {detached.pid} goes on with {detached.busy} tasks; tidemill stop ends them")


def _say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()
