"""The synchronous client: sends the values of `calls` with httpx2 and reads the answers with `answers`."""

import ipaddress
import json
import platform
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from http import HTTPStatus
from importlib.metadata import version
from pathlib import Path
from types import TracebackType
from typing import Final, Self, cast

import httpx2

from tidemill.sdk import answers, calls
from tidemill.sdk.answers import Answer, Page
from tidemill.sdk.calls import Call, EventQuery, LogQuery, PageQuery
from tidemill.sdk.errors import BadAnswerError, ConnectionFailedError, SdkError
from tidemill.sdk.wire import (
    Created,
    DeviceLogin,
    EventPage,
    Execution,
    Explanation,
    Job,
    Keys,
    LogPage,
    Node,
    PasswordReset,
    ResultLine,
    SigningKeys,
    Task,
    Token,
    Trigger,
    Workspace,
)

_NO_CONNECTION: Final = (httpx2.NetworkError, httpx2.RemoteProtocolError, httpx2.ConnectTimeout)
"""What a server that is away or just restarting looks like. A read timeout is not here: the server is at work."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Endpoint:
    """Where the API is and who asks. An empty `workspace` means the credential's only one."""

    api_url: str
    """With its `/v0`, without a slash at the end."""
    api_key: str = ""
    workspace: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class JobAnswer:
    """A job that was written, and where its source is to be sent when that was asked for (else empty).

    `at` is the server's time of the answer, in whole seconds; None when it did not say it.
    """

    job: Job
    upload_url: str
    at: datetime | None


class Client:
    """A connection to one server, for one thread. Every method raises the errors of `tidemill.sdk.errors`.

    A request that is repeatable is sent again after each of `delays_s` when the connection fails, and every request
    when the server answers 503 and asks for it.
    """

    def __init__(
        self,
        endpoint: Endpoint,
        *,
        delays_s: tuple[float, ...] = (0.2, 0.5, 1.0),
        sleep: Callable[[float], None] = time.sleep,
        transport: httpx2.BaseTransport | None = None,
    ) -> None:
        self._endpoint = endpoint
        self._delays_s = delays_s
        self._sleep = sleep
        headers = {"Blaxel-Version": calls.API_VERSION, "User-Agent": user_agent(), "Accept": "*/*"}
        if endpoint.api_key:
            headers["Authorization"] = f"Bearer {endpoint.api_key}"
        if endpoint.workspace:
            headers["X-Blaxel-Workspace"] = endpoint.workspace
        # a proxy of the environment never stands between a machine and itself
        outside = not _is_loopback(endpoint.api_url)
        self._http = httpx2.Client(headers=headers, trust_env=outside, transport=transport)
        # its own connection, so that no header with a credential can reach a storage service
        self._bare = httpx2.Client(trust_env=outside, transport=transport)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close all connections; the client is of no use afterwards."""
        self._http.close()
        self._bare.close()

    # the casts below say which shape the contract promises: the objects stay the dictionaries that were sent

    def list_jobs(self, page: PageQuery) -> Page[Job]:
        return cast("Page[Job]", answers.read_page(self._send(calls.list_jobs(page))))

    def get_job(self, name: str) -> Job:
        return cast("Job", answers.read_object(self._send(calls.get_job(name))))

    def put_job(self, job: Job, *, upload: bool = False) -> JobAnswer:
        return _job_answer(self._send(calls.put_job(job, upload=upload)))

    def post_job(self, job: Job, *, upload: bool = False) -> JobAnswer:
        return _job_answer(self._send(calls.post_job(job, upload=upload)))

    def delete_job(self, name: str) -> Job:
        return cast("Job", answers.read_object(self._send(calls.delete_job(name))))

    def upload(self, url: str, archive: Path) -> None:
        """Send a zip to the URL that a job was answered with. Sent once: such a URL is spent by its first use."""
        request = f"PUT {url.partition('?')[0]}"
        size = archive.stat().st_size
        headers = {"Content-Type": "application/zip", "Content-Length": str(size)}
        timeout = httpx2.Timeout(60.0, connect=10.0, read=300.0)
        try:
            with archive.open("rb") as content:
                response = self._bare.put(url, content=content, headers=headers, timeout=timeout)
        except httpx2.TransportError as error:
            raise ConnectionFailedError(request=request, reason=_reason(error)) from error
        if response.status_code != 200:
            raise answers.api_error(_answer(request, response, response.content))

    def create_execution(self, job: str, body: bytes = b"", *, idempotency_key: str = "") -> Created:
        """Start an execution; `body` is the request's JSON, or empty for one task without arguments.

        Without a key a fresh one is made, so that a repetition after a broken connection starts nothing twice.
        """
        key = idempotency_key or str(uuid.uuid4())
        answer = self._send(calls.post_execution(job, body, idempotency_key=key))
        return _created(answer)

    def rerun_execution(self, job: str, execution: str, body: bytes) -> Created:
        """Run tasks of an execution again; a repetition after a broken connection starts nothing twice."""
        return _created(self._send(calls.rerun_execution(job, execution, body, idempotency_key=str(uuid.uuid4()))))

    def list_executions(self, job: str, page: PageQuery) -> Page[Execution]:
        return cast("Page[Execution]", answers.read_page(self._send(calls.list_executions(job, page))))

    def get_execution(self, job: str, execution: str) -> Execution:
        return cast("Execution", answers.read_object(self._send(calls.get_execution(job, execution))))

    def find_execution(self, execution: str) -> Execution:
        """By its id or a prefix of at least eight characters; `metadata.job` says whose it is."""
        return cast("Execution", answers.read_object(self._send(calls.find_execution(execution))))

    def cancel_execution(self, job: str, execution: str, *, force: bool = False) -> Execution:
        call = calls.cancel_execution(job, execution, force=force)
        return cast("Execution", answers.read_object(self._send(call)))

    def list_tasks(self, job: str, execution: str, page: PageQuery) -> Page[Task]:
        return cast("Page[Task]", answers.read_page(self._send(calls.list_tasks(job, execution, page))))

    def get_task(self, job: str, execution: str, task: str) -> Task:
        """One task with its attempts; `task` is its index or its name."""
        return cast("Task", answers.read_object(self._send(calls.get_task(job, execution, task))))

    def explain(self, job: str, execution: str, task: str = "") -> Explanation:
        """Why an execution waits or how it ended; with `task`, its index or its name, one task of it."""
        return cast("Explanation", answers.read_object(self._send(calls.explain(job, execution, task))))

    def results(
        self, job: str, execution: str, *, follow: bool = False, chain: bool = False, after: int = -1
    ) -> Iterator[ResultLine]:
        """How tasks ended, in index order, beginning behind index `after`; read while it comes, never held whole.

        When the connection breaks, ConnectionFailedError is raised; the last index seen is the `after` to go on with.
        """
        call = calls.get_results(job, execution, follow=follow, chain=chain)
        with self._stream(call) as (request, chunks):
            for raw in answers.split_lines(chunks):
                line = _result_line(request, raw)
                if line["index"] > after:
                    yield line

    def events(self, query: EventQuery) -> EventPage:
        """What changed after a number, in order."""
        answer = self._send(calls.get_events(query))
        found = answers.read_object(answer)
        if not isinstance(found.get("next"), int) or not isinstance(found.get("events"), list):
            raise BadAnswerError(request=answer.request, reason="the answer has no events")
        return cast("EventPage", found)

    def logs(self, query: LogQuery) -> LogPage:
        return answers.read_logs(self._send(calls.get_logs(query)), query.job)

    def reset_password(self, user: str) -> PasswordReset:
        """`user`: an email or an id."""
        return cast("PasswordReset", answers.read_object(self._send(calls.reset_password(user))))

    def list_keys(self) -> Keys:
        return cast("Keys", answers.read_object(self._send(calls.list_keys())))

    def rotate_keys(self, *, drop: bool = False) -> Keys:
        """A step of a rotation: to be repeated until `done`."""
        return cast("Keys", answers.read_object(self._send(calls.rotate_keys(drop=drop))))

    def rotate_signing_keys(self) -> SigningKeys:
        return cast("SigningKeys", answers.read_object(self._send(calls.rotate_signing_keys())))

    def end_signing_key(self, key: str) -> SigningKeys:
        """All tokens that it signed are refused from now on."""
        return cast("SigningKeys", answers.read_object(self._send(calls.end_signing_key(key))))

    def list_triggers(self, job: str) -> list[Trigger]:
        """All of them, each with when it runs next and what became of its last run."""
        return cast("list[Trigger]", answers.read_list(self._send(calls.list_triggers(job))))

    def fire_trigger(self, job: str, trigger: str) -> Created:
        """Start an execution of a trigger now; a repetition after a broken connection starts nothing twice."""
        return _created(self._send(calls.fire_trigger(job, trigger, idempotency_key=str(uuid.uuid4()))))

    def list_nodes(self) -> list[Node]:
        """The machines that run tasks, for admins of the workspace that the server began with."""
        return cast("list[Node]", answers.read_list(self._send(calls.list_nodes())))

    def list_workspaces(self) -> list[Workspace]:
        return cast("list[Workspace]", answers.read_list(self._send(calls.list_workspaces())))

    def get_workspace(self, name: str) -> Workspace:
        return cast("Workspace", answers.read_object(self._send(calls.get_workspace(name))))

    def token(self, form: Mapping[str, str], *, basic: str = "") -> Token:
        """Ask the token service; `basic` are client credentials in base64."""
        return _token(self._send(calls.post_token(form, basic=basic)))

    def token_if_ready(self, form: Mapping[str, str]) -> Token | None:
        """As `token`; None while a person has yet to approve it and the server says so with 202."""
        answer = self._send(calls.post_token(form))
        return None if answer.status == 202 else _token(answer)

    def revoke(self, token: str) -> None:
        """End a token, and all that came from the same login."""
        self._send(calls.post_revocation(token))

    def start_device_login(self) -> DeviceLogin:
        """A code to approve in a browser."""
        answer = self._send(calls.post_device_login())
        found = answers.read_object(answer)
        if not all(found.get(name) for name in ("device_code", "user_code", "verification_uri", "expires_in")):
            raise BadAnswerError(request=answer.request, reason="the answer has no device_code")
        return cast("DeviceLogin", {"interval": 5, **found})

    def _send(self, call: Call) -> Answer:
        """The complete answer of a call, after its repetitions. Raises ApiError for a status of 400 or more."""
        for delay_s in (*self._delays_s, None):
            try:
                response = self._http.send(self._request(call))
            except httpx2.TransportError as error:
                again = call.repeatable and isinstance(error, _NO_CONNECTION)
                if delay_s is None or not again:
                    raise ConnectionFailedError(request=self._name(call), reason=_reason(error)) from error
                self._sleep(delay_s)
                continue
            answer = _answer(self._name(call), response, response.content)
            if delay_s is None or not answers.is_repeated(answer):
                break
            self._sleep(max(delay_s, answers.retry_after_s(answer.headers)))
        if answer.status >= 400:
            raise answers.api_error(answer)
        return answer

    @contextmanager
    def _stream(self, call: Call) -> Iterator[tuple[str, Iterator[bytes]]]:
        request = self._name(call)
        try:
            response = self._http.send(self._request(call), stream=True)
            try:
                if response.status_code >= 400:
                    raise answers.api_error(_answer(request, response, response.read()))
                yield request, response.iter_bytes()
            finally:
                response.close()
        except httpx2.TransportError as error:
            raise ConnectionFailedError(request=request, reason=_reason(error)) from error

    def _request(self, call: Call) -> httpx2.Request:
        headers = dict(call.headers)
        if call.body is not None:
            headers["Content-Type"] = "application/json"
        return self._http.build_request(
            call.method,
            f"{self._endpoint.api_url}{call.path}",
            params=call.query,
            content=call.body,
            headers=headers,
            timeout=httpx2.Timeout(60.0, connect=10.0, read=call.read_timeout_s),
        )

    def _name(self, call: Call) -> str:
        return f"{call.method} {self._endpoint.api_url}{call.path}"


def user_agent() -> str:
    """What the client calls itself. It must not begin like the official command line: servers treat that one apart."""
    return f"tidemill/{version('tidemill')} python/{platform.python_version()}"


def _answer(request: str, response: httpx2.Response, body: bytes) -> Answer:
    headers = {name.lower(): value for name, value in response.headers.items()}
    return Answer(request=request, status=response.status_code, headers=headers, body=body)


def _job_answer(answer: Answer) -> JobAnswer:
    job = cast("Job", answers.read_object(answer))
    url = answer.headers.get("x-blaxel-upload-url", "")
    return JobAnswer(job=job, upload_url=url, at=answers.date(answer.headers))


def _created(answer: Answer) -> Created:
    created = cast("Created", answers.read_object(answer))
    if not created.get("executionId"):
        raise BadAnswerError(request=answer.request, reason="the answer has no executionId")
    return created


def _token(answer: Answer) -> Token:
    found = answers.read_object(answer)
    if not found.get("access_token") or not isinstance(found.get("expires_in"), int):
        raise BadAnswerError(request=answer.request, reason="the answer has no access_token")
    return cast("Token", found)


def _result_line(request: str, raw: bytes) -> ResultLine:
    try:
        line = json.loads(raw)
    except ValueError as error:
        raise BadAnswerError(request=request, reason="a line of the results is not JSON") from error
    if isinstance(line, dict) and "index" not in line and isinstance(line.get("error"), dict):
        raise _cut_off(request, line["error"])
    if not isinstance(line, dict) or not isinstance(line.get("index"), int):
        raise BadAnswerError(request=request, reason="a line of the results has no index")
    return cast("ResultLine", line)


def _cut_off(request: str, problem: Mapping[str, object]) -> SdkError:
    """Why a stream ended before its time: for a server that goes away, what a broken connection is."""
    body = json.dumps(problem).encode()
    status = problem.get("code")
    if status == HTTPStatus.SERVICE_UNAVAILABLE:
        return ConnectionFailedError(request=request, reason=str(problem.get("message", "")))
    number = status if isinstance(status, int) else HTTPStatus.INTERNAL_SERVER_ERROR
    return answers.api_error(Answer(request=request, status=number, headers={}, body=body))


def _reason(error: httpx2.TransportError) -> str:
    return str(error) or type(error).__name__


def _is_loopback(url: str) -> bool:
    host = httpx2.URL(url).host
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
