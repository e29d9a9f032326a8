"""`tidemill doctor`: what works on this machine. Every line comes from a probe that runs the thing."""

import fcntl
import json
import platform
import shutil
import socket
import sqlite3
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Final

import httpx2
from cyclopts import Parameter
from rich.console import Console
from rich.text import Text
from uv import find_uv_bin

from tidemill import inspection
from tidemill.inspection import Report
from tidemill.local_node import node_settings
from tidemill.model.protections import Protection
from tidemill.node.isolation.findings import BUILD_LAUNCHER, confined
from tidemill.node.launcher import launcher_path
from tidemill.node.limits.findings import bounds
from tidemill.settings import Settings

PROBE_TIMEOUT_S: Final = 10
# more than a probe that is itself several with deadlines may take
DEADLINE_S: Final = 90.0
LOW_DISK_BYTES: Final = 2 << 30

_AS_THE_SERVER: Final = "run doctor as the user whom the server runs as"


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """What one probe saw. ``remedy`` is empty when there is nothing to do; ``vital`` ones decide the exit code."""

    name: str
    ok: bool
    says: str
    remedy: str = ""
    vital: bool = True


def host() -> Finding:
    works = sys.version_info >= (3, 11)
    says = f"Linux {platform.release()} {platform.machine()}, Python {platform.python_version()}"
    return Finding(name="host", ok=works, says=says, remedy="" if works else "install Python 3.11 or newer")


def sqlite(data_dir: Path) -> Finding:
    """A database where the server's would lie: not every file system can share the memory that its journal needs."""
    with tempfile.TemporaryDirectory(dir=_existing(data_dir)) as folder:
        connection = sqlite3.connect(Path(folder) / "probe.db")
        try:
            mode = connection.execute("PRAGMA journal_mode=WAL").fetchone()[0]
            connection.execute("CREATE TABLE probe (number INTEGER) STRICT")
            returned = connection.execute("INSERT INTO probe VALUES (1) RETURNING number").fetchone()
        finally:
            connection.close()
    works = mode == "wal" and returned == (1,)
    return Finding(name="sqlite", ok=works, says=f"{sqlite3.sqlite_version}, journal mode {mode}")


def launcher() -> Finding:
    path = launcher_path()
    if path is None:
        return Finding(
            name="launcher",
            ok=False,
            vital=False,
            says="not built: tasks start without it, with fewer protections",
            remedy=BUILD_LAUNCHER,
        )
    done = subprocess.run([path, "--version"], capture_output=True, text=True, timeout=PROBE_TIMEOUT_S, check=False)
    return Finding(name="launcher", ok=done.returncode == 0, says=done.stdout.strip() or done.stderr.strip())


def uv() -> Finding:
    done = subprocess.run(
        [find_uv_bin(), "--version"], capture_output=True, text=True, timeout=PROBE_TIMEOUT_S, check=False
    )
    return Finding(name="uv", ok=done.returncode == 0, says=done.stdout.strip() or done.stderr.strip())


def loopback() -> Finding:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        socket.create_connection(("127.0.0.1", port), timeout=PROBE_TIMEOUT_S).close()
    return Finding(name="loopback", ok=True, says=f"a listener on port {port} answered")


def data_directory(data_dir: Path) -> Finding:
    parent = _existing(data_dir)
    with tempfile.TemporaryFile(dir=parent) as probe:
        probe.write(b"x")
    free = shutil.disk_usage(parent).free
    low = free < LOW_DISK_BYTES
    return Finding(
        name="data directory",
        ok=not low,
        says=f"{data_dir}, {free / 1e9:.1f} GB free",
        remedy="free disk space, or name another place with --data-dir" if low else "",
    )


def _existing(folder: Path) -> Path:
    """The folder, or the first above it that there is."""
    return next(path for path in (folder, *folder.parents) if path.exists())


def server(data_dir: Path) -> Finding:
    found = data_dir / "server.json"
    if not _is_held(data_dir / "server.lock"):
        return Finding(name="server", ok=True, vital=False, says="none runs on this data directory")
    url = json.loads(found.read_text())["url"]
    answer = httpx2.get(f"{url}/readyz", timeout=PROBE_TIMEOUT_S)
    return Finding(name="server", ok=answer.status_code == httpx2.codes.OK, says=f"{url}: {answer.text.strip()}")


def node(data_dir: Path) -> Finding:
    if not _is_held(data_dir / "node.lock"):
        return Finding(name="node", ok=True, vital=False, says="none runs on this data directory")
    said = json.loads((data_dir / "node.json").read_text())
    return Finding(name="node", ok=True, says=f"pid {said['pid']}, protocol {said['protocol_version']}")


def _is_held(lock: Path) -> bool:
    if not lock.exists():
        return False
    with lock.open("rb") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False


def isolation(settings: Settings) -> Iterator[Finding]:
    """The level that tasks would run at, then each protection; a missing one is nothing vital, no level at all is."""
    found = confined(node_settings(settings))
    if found.level is None:
        yield Finding(name="isolation", ok=False, says=found.problem)
        return
    yield Finding(name="isolation", ok=True, says=f"tasks run at level {found.level}")
    for each in (*found.protections, *found.abilities):
        yield Finding(name=f"isolation: {each.name}", ok=each.active, says=each.says, remedy=each.remedy, vital=False)


def limits(settings: Settings) -> Iterator[Finding]:
    """What the kernel bounds for tasks; a bound that is missing is nothing vital."""
    protections = confined(node_settings(settings)).protections
    found = bounds(
        settings.data_dir / "node",
        node_runs=_is_held(settings.data_dir / "node.lock"),
        limits=settings.task_limits,
        # the levels with a root of their own have that too
        own_processes=any(each.name == Protection.OWN_ROOT and each.active for each in protections),
    )
    for each in found:
        yield Finding(name=f"limits: {each.name}", ok=each.active, says=each.says, remedy=each.remedy, vital=False)


def findings(settings: Settings) -> Iterator[Finding]:
    """Every probe's findings, each within a deadline; a probe that raises or does not answer is a finding too."""
    data_dir = settings.data_dir
    probes: Sequence[tuple[str, Callable[[], Iterable[Finding]]]] = (
        ("host", lambda: [host()]),
        ("sqlite", lambda: [sqlite(data_dir)]),
        ("launcher", lambda: [launcher()]),
        ("uv", lambda: [uv()]),
        ("loopback", lambda: [loopback()]),
        ("data directory", lambda: [data_directory(data_dir)]),
        ("server", lambda: [server(data_dir)]),
        ("node", lambda: [node(data_dir)]),
        ("isolation", lambda: isolation(settings)),
        ("limits", lambda: limits(settings)),
    )
    for name, probe in probes:
        yield from within(DEADLINE_S, name, probe)


def within(deadline_s: float, name: str, probe: Callable[[], Iterable[Finding]]) -> list[Finding]:
    """What a probe finds in that time. One that hangs, as on a disk that is gone, is left behind and told of."""
    found: list[Finding] = []

    def run() -> None:
        try:
            found.extend(probe())
        except PermissionError as error:
            found.append(Finding(name=name, ok=False, says=f"not allowed: {error}", remedy=_AS_THE_SERVER))
        except (OSError, ValueError, KeyError, sqlite3.Error, subprocess.SubprocessError, httpx2.HTTPError) as error:
            found.append(Finding(name=name, ok=False, says=f"{type(error).__name__}: {error}"))

    # a daemon: the command ends all the same
    thread = threading.Thread(target=run, name=f"tidemill-doctor-{name}", daemon=True)
    thread.start()
    thread.join(deadline_s)
    if thread.is_alive():
        return [Finding(name=name, ok=False, says=f"no answer within {deadline_s:g} s")]
    return found


def command(
    *,
    data_dir: Path | None = None,
    ledger_only: Annotated[bool, Parameter(name="--ledger", negative="")] = False,
    audit_only: Annotated[bool, Parameter(name="--audit", negative="")] = False,
    keys_only: Annotated[bool, Parameter(name="--keys", negative="")] = False,
    json_output: Annotated[bool, Parameter(name="--json", negative="")] = False,
) -> int:
    """What works here, and what to do about what does not.

    Parameters
    ----------
    data_dir
        The server's data directory.
    ledger_only
        Check the invariants of the ledger instead.
    audit_only
        Check instead that no row of the audit was removed, changed, moved or put in.
    keys_only
        Try instead to open every value that is sealed with a key of the key ring.
    json_output
        What was found as JSON.
    """
    settings = Settings.load({"data_dir": data_dir})
    console = Console(highlight=False, soft_wrap=True)
    for asked, inspect in (
        (ledger_only, inspection.ledger),
        (audit_only, inspection.audit_chain),
        (keys_only, inspection.sealed_values),
    ):
        if asked:
            return _print_report(inspect(settings), console, json_output=json_output)
    found = list(findings(settings))
    if json_output:
        sys.stdout.write(json.dumps([asdict(each) for each in found], indent=2) + "\n")
    else:
        for line in lines(found):
            console.print(Text(line))
    return 0 if all(each.ok for each in found if each.vital) else 1


def _print_report(report: Report, console: Console, *, json_output: bool) -> int:
    if json_output:
        sys.stdout.write(json.dumps(asdict(report), indent=2) + "\n")
    else:
        for sentence in report.says:
            console.print(Text(sentence))
    return 0 if report.ok else 1


def lines(found: Sequence[Finding]) -> Iterator[str]:
    """A line each, whole on any terminal, and below what is missing another one: how to get it."""
    width = max(len(each.name) for each in found)
    for each in found:
        state = "ok" if each.ok else "FAILED" if each.vital else "MISSING"
        yield f"{state:7}  {each.name:{width}}  {each.says}"
        if each.remedy:
            yield f"{'':7}  {'':{width}}  to have it: {each.remedy}"
