"""From `--data` or `--file` to the body of an execution request.

What may be given: a JSON object with `tasks` (a request), a JSON array (the tasks), any other JSON object (the
arguments of one task), JSONL (a line is one task's arguments), YAML of the first three shapes by its suffix.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path
from typing import Final

import yaml

from tidemill.cli.exits import usage
from tidemill.sdk.wire import Json

_LINES: Final = frozenset({".jsonl", ".ndjson"})
_YAML: Final = frozenset({".yaml", ".yml"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Overrides:
    """What flags set for one execution; they win over the same member of a request."""

    env: Mapping[str, str] = field(default_factory=dict)
    memory_mb: int | None = None
    execution_id: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Inputs:
    """A request taken apart: the tasks as JSON texts in their order (None: not named), and its other members."""

    tasks: list[bytes] | None
    members: dict[str, Json]


def read_text(text: str, source: str) -> Inputs:
    """JSON of any of the shapes above. `source` names it in errors. Raises a usage error for anything else."""
    return _inputs(_json(text, source), source)


def read_file(file: Path, stdin: bytes) -> Inputs:
    """A file by its suffix; `-` is what came on stdin, JSON or JSONL."""
    raw, name = (stdin, "stdin") if str(file) == "-" else (_bytes(file), str(file))
    suffix = file.suffix.lower()
    if suffix in _LINES:
        return Inputs(tasks=_lines(raw, name), members={})
    text = _decode(raw, name)
    if suffix in _YAML:
        return _inputs(_yaml(text, name), name)
    if _is_lines(text):
        return Inputs(tasks=_lines(raw, name), members={})
    return _inputs(_json(text, name), name)


def body(inputs: Inputs | None, overrides: Overrides) -> bytes:
    """The request's JSON; empty when nothing was given, which means one task without arguments."""
    members = dict(inputs.members) if inputs else {}
    if overrides.env:
        given = members.get("env")
        members["env"] = {**(given if isinstance(given, dict) else {}), **overrides.env}
    if overrides.memory_mb is not None:
        members["memory"] = overrides.memory_mb
    if overrides.execution_id:
        members["executionId"] = overrides.execution_id
    tasks = inputs.tasks if inputs else None
    if tasks is None:
        return _dump(members) if members else b""
    rest = _dump(members)[1:] if members else b"}"
    # a million tasks are joined as they are, not parsed into one tree and written again
    return b'{"tasks":[' + b",".join(tasks) + b"]" + (b"," if members else b"") + rest


def parse_env(pairs: list[str]) -> dict[str, str]:
    """The K=V of repeated flags. Raises a usage error for one without `=`."""
    variables = {}
    for pair in pairs:
        name, found, value = pair.partition("=")
        if not found or not name:
            raise usage(f"--env takes NAME=VALUE, not {pair!r}")
        variables[name] = value
    return variables


def _inputs(value: Json, source: str) -> Inputs:
    if isinstance(value, list):
        return Inputs(tasks=_tasks(value, source), members={})
    if not isinstance(value, dict):
        raise usage(f"{source}: expected a JSON object or array, found {_kind(value)}")
    if "tasks" not in value:
        return Inputs(tasks=[_dump(value)], members={})
    members = {name: member for name, member in value.items() if name != "tasks"}
    if not isinstance(value["tasks"], list):
        raise usage(f"{source}: `tasks` must be an array of objects, found {_kind(value['tasks'])}")
    return Inputs(tasks=_tasks(value["tasks"], source), members=members)


def _tasks(values: list[Json], source: str) -> list[bytes]:
    for index, value in enumerate(values):
        if not isinstance(value, dict):
            raise usage(f"{source}: task {index} must be an object of arguments, found {_kind(value)}")
    return [_dump(value) for value in values]


def _lines(raw: bytes, source: str) -> list[bytes]:
    """Every non-empty line, checked to be an object but sent as it was written."""
    tasks = []
    for number, line in enumerate(raw.removeprefix(b"\xef\xbb\xbf").split(b"\n"), start=1):
        stripped = line.strip()
        if not stripped:
            continue
        value = _json(_decode(stripped, f"{source}, line {number}"), f"{source}, line {number}")
        if not isinstance(value, dict):
            raise usage(f"{source}, line {number}: expected an object of arguments, found {_kind(value)}")
        tasks.append(stripped)
    return tasks


def _is_lines(text: str) -> bool:
    """Whether a text without a telling suffix is JSONL: its first line is a whole object and more lines follow."""
    first, _, rest = text.lstrip().partition("\n")
    if not first.startswith("{") or not rest.strip():
        return False
    try:
        json.loads(first)
    except ValueError:
        return False
    return True


def _json(text: str, source: str) -> Json:
    try:
        return json.loads(text, parse_constant=_refuse_constant)
    except json.JSONDecodeError as error:
        where = f"line {error.lineno} column {error.colno}"
        raise usage(f"{source}: not JSON: {error.msg} at {where}") from error
    except ValueError as error:
        raise usage(f"{source}: not JSON: {error}") from error


def _refuse_constant(word: str) -> Json:
    raise ValueError(f"{word} is not a JSON number")


def _yaml(text: str, source: str) -> Json:
    try:
        return yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise usage(f"{source}: not YAML: {' '.join(str(error).split())}") from error


def _bytes(file: Path) -> bytes:
    try:
        return file.read_bytes()
    except OSError as error:
        raise usage(f"cannot read {file}: {error.strerror}") from error


def _decode(raw: bytes, source: str) -> str:
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise usage(f"{source}: not UTF-8 text (byte {error.start})") from error


def _dump(value: Json) -> bytes:
    text = json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"), default=_plain)
    return text.encode()


def _plain(value: object) -> str:
    # YAML reads 2026-01-31 as a date; JSON has none, so it stays what was written
    if isinstance(value, date):
        return value.isoformat()
    raise usage(f"cannot be sent as JSON: {value!r}")


def _kind(value: Json) -> str:
    names = {dict: "an object", list: "an array", str: "a string", bool: "a boolean", type(None): "null"}
    return names.get(type(value), "a number")
