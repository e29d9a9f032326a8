"""A folder of code as its owner describes it: ``blaxel.toml``, and which files of the folder travel.

Standard library only: the CLI reads a folder with it, the server checks names and archives, a build reads what arrived.
Keys, durations and ignore rules are those of the official command line (docs/wire.md; contract 5.4 and 9).
"""

import difflib
import os
import re
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Final

FILE_NAME: Final = "blaxel.toml"
IGNORE_NAME: Final = ".blaxelignore"
# fmt: off
DEFAULT_IGNORES: Final = (
    ".blaxel", ".env.build", ".docker", ".git", "dist", ".venv", "venv", "node_modules", ".env", ".next", "__pycache__",
)
_KEYS: Final = frozenset({
    "type", "name", "workspace", "region", "policies", "image", "entrypoint", "env", "build", "runtime", "triggers",
    "volumes", "githubRunner", "skipRoot", "job",
    # legal in the file, without meaning for a job
    "agent", "function", "public", "protocol", "memory", "port", "defaultSize", "directory", "agents", "functions",
    "models", "transport",
})
_READ_RUNTIME_KEYS: Final = frozenset({
    "memory", "timeout", "maxRetries", "maxConcurrentTasks", "diskPercent", "generation", "network", "image", "ports",
})
# fmt: on
# build arguments may be secrets: as a file of the folder they never travel, whatever .blaxelignore says
FORCED_IGNORES: Final = (".env.build",)
MAX_NAME_LENGTH: Final = 49
NETWORKS: Final = ("on", "none")
MAX_DURATION_S: Final = 365 * 86_400

_UNITS_S: Final = {"": 1, "s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 7 * 86_400}
_DURATION: Final = re.compile(r"([0-9]{1,9})([smhdw]?)", re.IGNORECASE)
_RUNTIME_KEYS: Final = _READ_RUNTIME_KEYS | {"retryPolicy", "storageMb"}


class ManifestError(ValueError):
    """The text says which file, which key, and what would be right."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Runtime:
    """The ``[runtime]`` table; None where the file says nothing. ``other`` keeps keys we do not know, as they are."""

    memory_mb: int | None = None
    timeout_s: int | None = None
    max_retries: int | None = None
    max_concurrent_tasks: int | None = None
    disk_percent: int | None = None
    generation: str | None = None
    network: str | None = None
    image: str | None = None
    ports: tuple[Mapping[str, object], ...] | None = None
    other: Mapping[str, object] = field(default_factory=dict)

    def spec(self) -> dict[str, object]:
        """The same as ``spec.runtime`` of a request carries it: what is present only, durations in seconds."""
        return _present(
            memory=self.memory_mb,
            timeout=self.timeout_s,
            maxRetries=self.max_retries,
            maxConcurrentTasks=self.max_concurrent_tasks,
            diskPercent=self.disk_percent,
            generation=self.generation,
            network=self.network,
            image=self.image,
            ports=None if self.ports is None else [dict(port) for port in self.ports],
        ) | dict(self.other)


@dataclass(frozen=True, slots=True, kw_only=True)
class Trigger:
    """One of ``[[triggers]]``. Every duration in ``configuration`` is in seconds."""

    id: str | None
    type: str
    enabled: bool
    configuration: Mapping[str, object]

    def spec(self) -> dict[str, object]:
        """The same as ``spec.triggers`` of a request carries it."""
        return _present(
            id=self.id, type=self.type, enabled=self.enabled, configuration=dict(self.configuration) or None
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Manifest:
    """A ``blaxel.toml``. An absent key is None or empty, and ``Manifest()`` is that of a folder without the file.

    ``name`` is already a legal job name. ``build_args`` are for the build alone, never for a task. ``packages`` are the
    folders of ``[job.NAME]``, by name. ``warnings`` are sentences for the owner: misspelt keys and the like.
    """

    name: str | None = None
    workspace: str | None = None
    region: str | None = None
    policies: tuple[str, ...] | None = None
    image: str | None = None
    skip_root: bool = False
    entrypoint_prod: str | None = None
    entrypoint_dev: str | None = None
    env: Mapping[str, str] = field(default_factory=dict)
    build_args: Mapping[str, str] = field(default_factory=dict)
    runtime: Runtime = field(default_factory=Runtime)
    triggers: tuple[Trigger, ...] | None = None
    volumes: tuple[Mapping[str, object], ...] | None = None
    github_repositories: tuple[str, ...] | None = None
    packages: Mapping[str, str] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()

    def spec(self) -> dict[str, object]:
        """``spec`` of a request as far as the file says it; ``envs`` are the caller's to add (contract 5.2)."""
        return _present(
            runtime=self.runtime.spec(),
            triggers=None if self.triggers is None else [trigger.spec() for trigger in self.triggers],
            region=self.region,
            volumes=None if self.volumes is None else [dict(volume) for volume in self.volumes],
            policies=None if self.policies is None else list(self.policies),
            githubRunner=None if self.github_repositories is None else {"repositories": list(self.github_repositories)},
        )


def load_manifest(folder: Path) -> Manifest:
    """The manifest of ``folder``; ``Manifest()`` when it has none. Raises ManifestError, or OSError when unreadable."""
    path = folder / FILE_NAME
    try:
        text = path.read_bytes().decode()
    except FileNotFoundError:
        return Manifest()
    except UnicodeDecodeError as error:
        raise ManifestError(f"{FILE_NAME}: not UTF-8 text ({error})") from error
    return parse_manifest(text)


def parse_manifest(text: str) -> Manifest:
    """The manifest that ``text`` spells out. Raises ManifestError."""
    try:
        top = _Table("", tomllib.loads(text))
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        raise ManifestError(f"{FILE_NAME}: not valid TOML: {error}") from error
    kind = top.text("type")
    if kind not in {None, "job"}:
        raise ManifestError(f'{FILE_NAME}: type is {kind!r}; only jobs are deployed here, write type = "job"')
    name = top.text("name")
    runtime = top.table("runtime")
    plain_entrypoint = isinstance(top.values.get("entrypoint"), str)
    entrypoint = _Table("entrypoint", {}) if plain_entrypoint else top.table("entrypoint")
    triggers = top.tables("triggers")
    warnings = [*top.unknown(_KEYS), *runtime.unknown(_RUNTIME_KEYS)]
    if plain_entrypoint:
        warnings.append(f'{FILE_NAME}: entrypoint is a string and is ignored; write [entrypoint] prod = "..."')
    return Manifest(
        name=None if name is None else job_name(name),
        workspace=top.text("workspace"),
        region=top.text("region"),
        policies=top.texts("policies"),
        image=top.text("image"),
        skip_root=top.flag("skipRoot") or False,
        entrypoint_prod=entrypoint.text("prod"),
        entrypoint_dev=entrypoint.text("dev"),
        env=top.table("env").text_map(),
        build_args=top.table("build").table("args").text_map(),
        runtime=_runtime(runtime),
        triggers=None if triggers is None else tuple(_trigger(trigger) for trigger in triggers),
        volumes=_plain(top.tables("volumes")),
        github_repositories=top.table("githubRunner").texts("repositories"),
        packages=_packages(top.table("job")),
        warnings=tuple(warnings),
    )


def _runtime(table: "_Table") -> Runtime:
    return Runtime(
        memory_mb=table.whole("memory"),
        timeout_s=table.duration_s("timeout"),
        max_retries=table.whole("maxRetries"),
        max_concurrent_tasks=table.whole("maxConcurrentTasks"),
        disk_percent=table.whole("diskPercent"),
        generation=table.text("generation"),
        network=_network(table),
        image=table.text("image"),
        ports=_plain(table.tables("ports")),
        other={key: value for key, value in table.values.items() if key not in _READ_RUNTIME_KEYS},
    )


def _network(table: "_Table") -> str | None:
    word = table.text("network")
    if word not in {None, *NETWORKS}:
        # here, because what `bl` deploys goes past the server's own check
        raise table.error("network", f"is {word!r}", " or ".join(f'"{each}"' for each in NETWORKS))
    return word


def _trigger(table: "_Table") -> Trigger:
    kind = table.text("type")
    if kind is None:
        raise table.error("type", "is missing", 'one of "cron", "http", "http-async"')
    configuration = table.table("configuration")
    values = dict(configuration.values)
    for owner in (table, configuration):
        timeout_s = owner.duration_s("timeout")
        if timeout_s is not None:
            values["timeout"] = timeout_s
    enabled = table.flag("enabled")
    return Trigger(id=table.text("id"), type=kind, enabled=enabled is not False, configuration=values)


def _packages(table: "_Table") -> dict[str, str]:
    return {name: table.table(name).text("path") or name for name in table.values}


def _plain(tables: "tuple[_Table, ...] | None") -> tuple[Mapping[str, object], ...] | None:
    return None if tables is None else tuple(table.values for table in tables)


def _present(**members: object) -> dict[str, object]:
    return {name: value for name, value in members.items() if value is not None}


@dataclass(frozen=True, slots=True)
class _Table:
    """A table of the file with its dotted path, so that every complaint names the key."""

    path: str
    values: Mapping[str, object]

    def error(self, key: str, what: str, right: str) -> ManifestError:
        return ManifestError(f"{FILE_NAME}: {self._dotted(key)} {what}; it must be {right}")

    def text(self, key: str) -> str | None:
        value = self.values.get(key)
        if value is None or isinstance(value, str):
            return value
        raise self.error(key, f"is {value!r}", "a string, in quotes")

    def whole(self, key: str) -> int | None:
        value = self.values.get(key)
        if value is None or (isinstance(value, int) and not isinstance(value, bool) and value >= 0):
            return value
        raise self.error(key, f"is {value!r}", "a whole number, 0 or more")

    def flag(self, key: str) -> bool | None:
        value = self.values.get(key)
        if value is None or isinstance(value, bool):
            return value
        raise self.error(key, f"is {value!r}", "true or false")

    def texts(self, key: str) -> tuple[str, ...] | None:
        value = self.values.get(key)
        if value is None:
            return None
        if isinstance(value, list) and all(isinstance(item, str) for item in value):
            return tuple(value)
        raise self.error(key, f"is {value!r}", "a list of strings")

    def table(self, key: str) -> "_Table":
        value = self.values.get(key, {})
        if isinstance(value, dict):
            return _Table(self._dotted(key), value)
        raise self.error(key, f"is {value!r}", f"a table: [{self._dotted(key)}]")

    def tables(self, key: str) -> "tuple[_Table, ...] | None":
        value = self.values.get(key)
        if value is None:
            return None
        if isinstance(value, list) and all(isinstance(item, dict) for item in value):
            return tuple(_Table(f"{self._dotted(key)}[{number}]", item) for number, item in enumerate(value))
        raise self.error(key, f"is {value!r}", f"a list of tables: [[{self._dotted(key)}]]")

    def text_map(self) -> dict[str, str]:
        return {key: self.text(key) or "" for key in self.values}

    def duration_s(self, key: str) -> int | None:
        value = self.values.get(key)
        if value is None:
            return None
        try:
            return duration_s(value)
        except ValueError as error:
            raise ManifestError(f"{FILE_NAME}: {self._dotted(key)}: {error}") from error

    def unknown(self, known: frozenset[str]) -> Iterator[str]:
        for key in self.values:
            if key not in known:
                near = difflib.get_close_matches(key, known, n=1)
                yield f"{FILE_NAME}: unknown key {self._dotted(key)}" + (f", did you mean {near[0]}?" if near else "")

    def _dotted(self, key: str) -> str:
        return f"{self.path}.{key}" if self.path else key


def duration_s(value: object) -> int:
    """Seconds from ``900``, ``"900"``, ``"15m"``, ``"1H"`` and the like (contract 9).

    No fractions, no combinations, at most a year. Raises ManifestError.
    """
    match = _DURATION.fullmatch(value.strip()) if isinstance(value, str) else None
    if match is not None:
        seconds = int(match[1]) * _UNITS_S[match[2].lower()]
    elif isinstance(value, int) and not isinstance(value, bool):
        seconds = value
    else:
        raise ManifestError(f'{value!r} is no duration; write seconds, or a whole number with s, m, h, d or w: "15m"')
    if not 0 <= seconds <= MAX_DURATION_S:
        raise ManifestError(f"{value!r} is out of range; a duration is 0 to one year")
    return seconds


def slugify(text: str) -> str:
    """``text`` as the official command line makes a name of it (contract 4.4): ``My Job_2`` gives ``my-job-2``."""
    hyphenated = re.sub(r"[ _]", "-", text.lower())
    return re.sub(r"-+", "-", re.sub(r"[^a-z0-9-]", "", hyphenated)).strip("-") or "resource"


def job_name(text: str) -> str:
    """A legal job name made of ``text``. Raises ManifestError when it is longer than 49 characters: it is never cut."""
    name = slugify(text)
    if len(name) > MAX_NAME_LENGTH:
        raise ManifestError(
            f"{FILE_NAME}: name {name!r} has {len(name)} characters; it must have at most {MAX_NAME_LENGTH}"
        )
    return name


def read_ignores(folder: Path) -> tuple[str, ...]:
    """What is left out of the archive of ``folder``: its ``.blaxelignore`` instead of the defaults (contract 5.4)."""
    try:
        lines = (folder / IGNORE_NAME).read_text(encoding="utf-8", errors="surrogateescape").splitlines()
    except FileNotFoundError:
        return DEFAULT_IGNORES
    listed = (line.strip() for line in lines)
    kept = (str(PurePosixPath(line.lstrip("/"))) for line in listed if line and not line.startswith("#"))
    return (*FORCED_IGNORES, *(entry for entry in kept if entry != "."))


def is_ignored(name: str, ignores: tuple[str, ...]) -> bool:
    """Whether ``name``, a path relative to the folder with ``/``, is left out. No globs (contract 5.4).

    An entry matches as a prefix of the whole path (so ``.git`` also drops ``.gitignore``), or as whole components
    anywhere. The official rule looks at absolute paths: below a folder called ``dist`` it drops all. Ours does not.
    """
    rooted = f"/{name}"
    return any(name.startswith(entry) or f"/{entry}/" in rooted or rooted.endswith(f"/{entry}") for entry in ignores)


def archive_members(folder: Path) -> Iterator[tuple[Path, str]]:
    """What the archive of ``folder`` holds: (path, name in the archive), sorted by folder; folders' names end in ``/``.

    Links to files stand for their content, links to folders are empty folders; broken links, and what is neither file
    nor folder, are left out (contract 5.4). Raises OSError when something cannot be read.
    """
    yield from _members(folder, "", read_ignores(folder))


def _members(folder: Path, prefix: str, ignores: tuple[str, ...]) -> Iterator[tuple[Path, str]]:
    with os.scandir(folder) as found:
        entries = sorted(found, key=lambda entry: entry.name)
    for entry in entries:
        name = prefix + entry.name
        if is_ignored(name, ignores):
            continue
        if entry.is_dir():
            yield Path(entry.path), f"{name}/"
            if not entry.is_symlink():
                yield from _members(Path(entry.path), f"{name}/", ignores)
        elif entry.is_file():
            yield Path(entry.path), name
