"""`tidemill deploy [FOLDER]`: pack a folder, send it, and wait until it is deployed."""

import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Final

from rich.console import Console
from rich.status import Status

from tidemill.cli import output
from tidemill.cli.connection import Connection, connected, environment
from tidemill.cli.exits import INTERRUPTED, CommandError
from tidemill.cli.logs import Tail, print_line, read_window
from tidemill.cli.output import Output
from tidemill.cli.source import SourceFlags, job_request, pack, read_manifest
from tidemill.manifest import Manifest
from tidemill.sdk import ApiError, Client, ConnectionFailedError, Job, JobAnswer, LogQuery
from tidemill.sdk.wire import Event

_UPLOAD_PAUSES_S: Final = (1.0, 2.0, 4.0, 8.0)
"""Between the five attempts, as the official command line has them (contract 5.3)."""
_NOT_WORTH_REPEATING: Final = frozenset({400, 401, 403, 409, 413, 415, 422})
_LOOK_EVERY_S: Final = 0.5
_STALE_S: Final = 15.0
"""How long a final state without a sign of this deploy is taken for that of the one before."""
_FINAL: Final = frozenset({"DEPLOYED", "FAILED"})
_GONE: Final = frozenset({"DEACTIVATED", "DEACTIVATING", "DELETING", "TERMINATED"})
_MOST_LINES: Final = 10_000
_LAST_LINES_S: Final = 1.5
_SAME_CLOCK: Final = timedelta(seconds=2)


@dataclass(frozen=True, slots=True, kw_only=True)
class Sent:
    """A deploy on its way: the job's events as they were before its source was sent, and when sending began."""

    name: str
    before: tuple[Event, ...]
    since: datetime


def command(
    folder: Path = Path(),
    /,
    *,
    source: SourceFlags | None = None,
    wait: bool = True,
    timeout: float = 3600.0,
    form: Output = "table",
    server: Connection | None = None,
) -> None:
    """Deploy a folder as a job: its source is packed, sent, built, and becomes the job's new revision.

    Parameters
    ----------
    folder
        The folder with the blaxel.toml.
    wait
        Wait until the job is deployed, showing what the build prints.
    timeout
        How long to wait at most, in seconds.
    """
    started = output.wall_clock()
    manifest = read_manifest(folder)
    request = job_request(folder, manifest, source or SourceFlags(), environment())
    for warning in (*manifest.warnings, *_package_warnings(manifest)):
        output.hint(f"warning: {warning}")
    name = request["metadata"]["name"]
    with connected(server or Connection()) as client:
        job, since = _send(client, folder, manifest, request)
        if wait:
            job = _wait(client, Sent(name=name, before=tuple(job.get("events") or ()), since=since), timeout)
    if form != "table":
        output.print_value(job, form)
    elif wait:
        _print_deployed(name, job, (output.wall_clock() - started).total_seconds())
    else:
        print(name)
        output.hint(f"state:  tidemill get job {name}", f"build:  tidemill logs job {name} --period 10m")


def verdict(job: Job, before: Sequence[Event], *, moved: bool) -> str:
    """DEPLOYED or FAILED once that is what became of this deploy; empty while it is on its way.

    `before` are the job's events before the source was sent, `moved` says that a state on the way was seen since:
    without news in either, a final state is still that of the deploy before.
    """
    news = [event.get("status", "") for event in _news(job, before)]
    status = job.get("status", "")
    if "FAILED" in news and "DEPLOYED" not in news:
        return "FAILED"
    return status if status in _FINAL and (moved or not _FINAL.isdisjoint(news)) else ""


def _package_warnings(manifest: Manifest) -> tuple[str, ...]:
    if not manifest.packages:
        return ()
    folders = "  ".join(manifest.packages.values())
    return (f"folders under [job] are jobs of their own; deploy each by `tidemill deploy FOLDER`: {folders}",)


def sending_began(own: datetime, server: datetime | None) -> datetime:
    """When sending began on the clock that lines of the build are stamped with.

    `own` is what our clock said before the request, `server` what its answer said, in whole seconds: that counts only
    where it shows that the two clocks differ.
    """
    return own if server is None or abs(server - own) <= _SAME_CLOCK else server


def _send(client: Client, folder: Path, manifest: Manifest, request: Job) -> tuple[Job, datetime]:
    """The job as it was answered, and when sending began."""
    if "image" in (request["spec"].get("runtime") or {}):
        began = output.wall_clock()
        return _write_job(client, request, upload=False).job, began
    with tempfile.TemporaryDirectory(prefix="tidemill-deploy-") as scratch:
        archive = Path(scratch) / "source.zip"
        count = pack(folder, manifest, archive)
        size_kib = archive.stat().st_size / 1024
        output.hint(f"sending {count} files, {size_kib:,.0f} KiB packed")
        return _upload(client, request, archive)


def _upload(client: Client, request: Job, archive: Path) -> tuple[Job, datetime]:
    """Five attempts, each with an address of its own: one that was used may be spent."""
    for pause_s in (*_UPLOAD_PAUSES_S, None):
        began = output.wall_clock()
        answer = _write_job(client, request, upload=True)
        if not answer.upload_url:
            raise CommandError("the server named no place to send the source to; is it a Tidemill server?")
        try:
            client.upload(answer.upload_url, archive)
        except (ApiError, ConnectionFailedError) as error:
            final = isinstance(error, ApiError) and error.status in _NOT_WORTH_REPEATING
            if pause_s is None or final:
                raise
            output.hint(f"sending failed ({error}); again in {pause_s:.0f} s")
            time.sleep(pause_s)
        else:
            return answer.job, sending_began(began, answer.at)
    raise AssertionError("the last attempt returns or raises")


def _write_job(client: Client, request: Job, *, upload: bool) -> JobAnswer:
    """Change the job, or create it when there is none of that name."""
    try:
        return client.put_job(request, upload=upload)
    except ApiError as error:
        if error.status not in {404, 405}:
            raise
    return client.post_job(request, upload=upload)


def _wait(client: Client, sent: Sent, timeout_s: float) -> Job:
    console = output.stderr()
    try:
        with console.status("waiting for the build") as spinner:
            return _watch(client, sent, spinner, console, timeout_s)
    except KeyboardInterrupt:
        raise CommandError(
            f"no longer waiting; the deploy of {sent.name} goes on",
            code=INTERRUPTED,
            advice=(f"state:  tidemill get job {sent.name}",),
        ) from None


def _watch(client: Client, sent: Sent, spinner: Status, console: Console, timeout_s: float) -> Job:
    begun_s = time.monotonic()
    tail, status, moved, away = Tail(), "", False, False
    while time.monotonic() - begun_s < timeout_s:
        try:
            job = client.get_job(sent.name)
            _print_build(client, sent, tail, console)
        except ConnectionFailedError as error:
            if not away:
                console.print(f"the server does not answer ({error.reason}); waiting for it", soft_wrap=True)
            away = True
            time.sleep(_LOOK_EVERY_S)
            continue
        away = False
        now = job.get("status", "")
        moved = moved or now not in _FINAL or time.monotonic() - begun_s > _STALE_S
        if now != status:
            status = now
            spinner.update(status)
            console.print(output.state(status))
        end = verdict(job, sent.before, moved=moved)
        if end == "FAILED" or now in _GONE:
            # the last lines say why, and they travel in blocks of up to a second
            time.sleep(_LAST_LINES_S)
            _print_build(client, sent, tail, console)
            raise _failure(sent, job)
        if end:
            return job
        time.sleep(_LOOK_EVERY_S)
    raise CommandError(
        f"{sent.name} was not deployed within {output.duration(timeout_s)}; it goes on",
        advice=(f"state:  tidemill get job {sent.name}",),
    )


def _print_build(client: Client, sent: Sent, tail: Tail, console: Console) -> None:
    end = output.wall_clock() + timedelta(minutes=1)
    try:
        query = LogQuery(job=sent.name, start=sent.since, end=end, builds_only=True)
        lines, _ = read_window(client, query, _MOST_LINES)
    except ApiError:
        # to see the build is a courtesy; what became of it is in the job's state and events
        return
    for line in tail.fresh(lines):
        # the window begins at a whole second, in which the build before may have ended
        at = output.parse_time(line.get("timestamp"))
        if at is not None and at >= sent.since:
            print_line(console, line)


def _failure(sent: Sent, job: Job) -> CommandError:
    events = [event for event in _news(job, sent.before) if event.get("status") == "FAILED"]
    reasons = "; ".join(filter(None, (event.get("message", "") for event in events)))
    advice = [f"build output:  tidemill logs job {sent.name} --period 1h"]
    revision = (job.get("spec", {}).get("revision") or {}).get("active")
    if revision:
        advice.append(f"revision {revision} serves on")
    return CommandError(f"{sent.name} was not deployed: {reasons or job.get('status', 'FAILED')}", advice=tuple(advice))


def _news(job: Job, before: Sequence[Event]) -> list[Event]:
    return [event for event in job.get("events") or [] if event not in before]


def _print_deployed(name: str, job: Job, took_s: float) -> None:
    image = (job.get("spec", {}).get("runtime") or {}).get("image") or "-"
    output.stdout().print(f"{name} deployed in {output.duration(took_s)}, image {image}", soft_wrap=True)
    output.hint(f"run it:  tidemill run job {name} --data '{{}}' --wait")
