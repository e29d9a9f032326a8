"""``spec.triggers`` on the wire (docs/wire.md, Triggers): what they may say. They come back as they were sent."""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Final, Literal

from tidemill.api.wire import Body, Json, present, render, timestamp
from tidemill.model import cron, trigger
from tidemill.model.cron import ScheduleError
from tidemill.model.errors import Invalid
from tidemill.model.job import MASK
from tidemill.model.trigger import CALLED, CatchUp, Overlap, ZoneError
from tidemill.store.triggers_shown import TriggerShown

MAX_TRIGGERS: Final = 100
MAX_TASKS: Final = 10_000
MAX_TASKS_BYTES: Final = 1 << 20
MAX_RETRY: Final = 100
MAX_TIMEOUT_S: Final = 86_400
MAX_ASYNC_TIMEOUT_S: Final = 900

_ID: Final = re.compile(r"[A-Za-z0-9._-]{1,64}")
_PATH: Final = re.compile(r"/[A-Za-z0-9._~!$&'()*+,;=:@%/-]*")
_URL: Final = re.compile(r"https?://[^\s/?#]+\S*")
_LONGEST: Final = {"path": 200, "callbackUrl": 2_000}
_WORDS: Final[Mapping[str, tuple[str, ...]]] = {
    "authenticationType": ("blaxel", "public"),
    "catchUp": tuple(CatchUp),
    "overlap": tuple(Overlap),
}
_SHOWN: Final = 64


class ConfigurationBody(Body):
    """Checked by hand, so that a message can say what would be right."""

    schedule: Json = None
    timezone: Json = None
    catch_up: Json = None
    overlap: Json = None
    tasks: Json = None
    path: Json = None
    authentication_type: Json = None
    retry: Json = None
    timeout: Json = None
    callback_url: Json = None
    # read-only: a secret is made here (docs/callbacks.md), and whatever comes back of it means "keep"
    callback_secret: Json = None


class TriggerBody(Body):
    id: str | None = None
    type: Literal["http", "http-async", "cron"]
    enabled: bool | None = None
    configuration: ConfigurationBody | None = None


def triggers_of(bodies: Sequence[TriggerBody]) -> list[dict[str, Json]]:
    """The triggers as they are kept, each with an id of its own and ``enabled``. Raises Invalid.

    An id that is left out is TYPE-NUMBER, one that is there twice gets a number: the same request, the same ids.
    """
    if len(bodies) > MAX_TRIGGERS:
        raise Invalid(f"spec.triggers has {len(bodies)} elements; a job may have up to {MAX_TRIGGERS}")
    found, taken = list[dict[str, Json]](), set[str]()
    given = {body.id for body in bodies if body.id}
    for number, body in enumerate(bodies):
        path = f"spec.triggers[{number}]"
        if body.id and _ID.fullmatch(body.id) is None:
            raise Invalid(f"{path}.id is {_shown(body.id)}; it must have 1 to 64 of A-Z, a-z, 0-9, '.', '_' and '-'")
        name = body.id if body.id and body.id not in taken else next(_fresh(body, given | taken))
        taken.add(name)
        kept = {**(body.model_extra or {}), "id": name, "type": body.type, "enabled": body.enabled is not False}
        configuration = _configuration(f"{path}.configuration", body)
        if body.configuration is not None:
            kept["configuration"] = configuration
        found.append(kept)
    _check_apart(found)
    return found


def _check_apart(triggers: Sequence[Mapping[str, Json]]) -> None:
    """No two of one type are called at the same path. Raises Invalid."""
    taken = dict[tuple[str, str], int]()
    for number, each in enumerate(triggers):
        if each["type"] in CALLED:
            path = (each.get("configuration") or {}).get("path", "/")
            first = taken.setdefault((each["type"], trigger.normal_path(path)), number)
            if first != number:
                raise Invalid(
                    f"spec.triggers[{number}].configuration.path is {_shown(path)}; spec.triggers[{first}], of the "
                    "same type, is called there already: choose another one"
                )


def trigger_view(shown: TriggerShown) -> dict[str, Json]:
    """A trigger as the job's spec has it, with its next runs and its last one (both ours)."""
    view: dict[str, Json] = {**_masked(shown.kept, {}), "nextRuns": [timestamp(at) for at in shown.next_runs]}
    last = shown.last_run
    if last is not None:
        run = {
            "dueAt": timestamp(last.due_at),
            "outcome": last.outcome.value,
            "reason": last.reason or None,
            "executionId": last.execution or None,
            "status": last.status or None,
        }
        view["lastRun"] = present(run)
    return view


def trigger_views(kept: Json, secrets: Mapping[str, str]) -> Json:
    """Triggers as they are shown: with the secrets that a request has just made, by trigger; a mask for the others."""
    return [_masked(trigger, secrets) for trigger in kept] if isinstance(kept, list) else kept


def _masked(trigger: Mapping[str, Json], secrets: Mapping[str, str]) -> Mapping[str, Json]:
    configuration: Mapping[str, Json] = trigger.get("configuration") or {}
    if not configuration.get("callbackUrl"):
        return trigger
    secret = secrets.get(str(trigger["id"]), MASK)
    return {**trigger, "configuration": {**configuration, "callbackSecret": secret}}


def _fresh(body: TriggerBody, taken: set[str]) -> Iterator[str]:
    """Ids that nobody has, in order."""
    stem, number = (body.id[:56], 2) if body.id else (body.type, 1)
    while True:
        if f"{stem}-{number}" not in taken:
            yield f"{stem}-{number}"
        number += 1


def _configuration(path: str, body: TriggerBody) -> dict[str, Json]:
    """What is kept of a configuration: members that are set, as they were sent. Raises Invalid."""
    document = {} if body.configuration is None else body.configuration.model_dump(by_alias=True, exclude_unset=True)
    document.pop("callbackSecret", None)
    # "" and 0 are what Go prints of a member that was never set
    kept = {name: value for name, value in document.items() if value is not None and value != ""}
    if body.type == "cron" and "schedule" not in kept:
        raise Invalid(f"{path}.schedule is missing; a cron trigger needs one, like '0 3 * * *'")
    if isinstance(kept.get("timeout"), int) and kept["timeout"] == 0 and kept["timeout"] is not False:
        del kept["timeout"]
    if kept.get("tasks") == []:
        del kept["tasks"]
    for name, check in _CHECKS.items():
        if name in kept:
            check(f"{path}.{name}", kept[name])
    if "timeout" in kept:
        most = MAX_ASYNC_TIMEOUT_S if body.type == "http-async" else MAX_TIMEOUT_S
        _check_number(f"{path}.timeout", kept["timeout"], 1, most, " seconds")
    return kept


def _check_text(path: str, value: Json, pattern: re.Pattern[str], right: str) -> None:
    longest = _LONGEST[path.rpartition(".")[2]]
    if not isinstance(value, str) or len(value) > longest or pattern.fullmatch(value) is None:
        raise Invalid(f"{path} is {_shown(value)}; it must be {right}, of up to {longest} characters")


def _check_schedule(path: str, value: Json) -> None:
    if not isinstance(value, str):
        raise Invalid(f"{path} is {_shown(value)}; it must be a cron schedule of five fields, like '0 3 * * *'")
    try:
        cron.parse(value)
    except ScheduleError as error:
        raise Invalid(f"{path} is {_shown(value)}; {error}") from None


def _check_timezone(path: str, value: Json) -> None:
    if not isinstance(value, str):
        raise Invalid(f"{path} is {_shown(value)}; it must be the name of a time zone, like 'Europe/Paris'")
    try:
        trigger.zone(value)
    except ZoneError as error:
        raise Invalid(f"{path} is {_shown(value)}; {error}") from None


def _check_path(path: str, value: Json) -> None:
    _check_text(path, value, _PATH, "a path that begins with /, like '/invoke'")
    where = trigger.normal_path(value)
    if where == "/executions" or where.startswith("/executions/"):
        raise Invalid(f"{path} is {_shown(value)}; that path starts executions: choose another one")


def _check_url(path: str, value: Json) -> None:
    _check_text(path, value, _URL, "a URL that begins with http:// or https://")


def _check_word(path: str, value: Json) -> None:
    words = _WORDS[path.rpartition(".")[2]]
    if value not in words:
        raise Invalid(f"{path} is {_shown(value)}; it must be one of {', '.join(words)}")


def _check_retry(path: str, value: Json) -> None:
    _check_number(path, value, 0, MAX_RETRY)


def _check_number(path: str, value: Json, least: int, most: int, unit: str = "") -> None:
    # to Python, true is a number
    if not isinstance(value, int) or isinstance(value, bool) or not least <= value <= most:
        raise Invalid(f"{path} is {_shown(value)}; it must be a whole number, {least} to {most}{unit}")


def _check_tasks(path: str, value: Json) -> None:
    if not isinstance(value, list):
        raise Invalid(f"{path} is {_shown(value)}; it must be an array of objects, the arguments of each task")
    if len(value) > MAX_TASKS:
        raise Invalid(f"{path} has {len(value)} elements; it may have 1 to {MAX_TASKS}")
    for number, task in enumerate(value):
        if not isinstance(task, dict):
            raise Invalid(f"{path}[{number}] is {_shown(task)}; it must be an object of arguments")
    size = len(render(value))
    if size > MAX_TASKS_BYTES:
        raise Invalid(f"{path} has {size} bytes in all; it may have up to {MAX_TASKS_BYTES}")


def _shown(value: Json) -> str:
    text = repr(value)
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}..."


_CHECKS: Final[Mapping[str, Callable[[str, Json], None]]] = {
    "schedule": _check_schedule,
    "timezone": _check_timezone,
    "path": _check_path,
    "callbackUrl": _check_url,
    "retry": _check_retry,
    "tasks": _check_tasks,
    **dict.fromkeys(_WORDS, _check_word),
}
