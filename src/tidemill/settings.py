"""Every setting of the server: type, unit, default, one sentence. The only reader of the environment in it.

Flags win over ``TIDEMILL_<NAME>`` variables, those over the TOML file that ``config`` names. docs/settings.md is
generated from here.
"""

import difflib
import os
import re
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from ipaddress import IPv4Network, IPv6Network, ip_network
from pathlib import Path
from typing import Annotated, Final, Literal, Self

from pydantic import Field, SecretStr, ValidationError, field_validator, model_validator
from pydantic.fields import FieldInfo
from pydantic_settings import (
    BaseSettings,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    TomlConfigSettingsSource,
)

from tidemill.model.addresses import Allowed
from tidemill.model.provider_url import is_safe
from tidemill.node.settings import METADATA_ADDRESSES

PREFIX: Final = "TIDEMILL_"
RESERVED_WORKSPACES: Final = frozenset(
    {"v0", "console", "docs", "login", "device", "healthz", "readyz", "metrics", "uploads"}
)
# set for tasks and for programs of ours, not for the server
_OTHERS: Final = frozenset({"TIDEMILL_TASK_FILE", "TIDEMILL_RESULT_FILE", "TIDEMILL_WORK_DIR"})
_OTHER_PREFIXES: Final = ("TIDEMILL_ATTEMPT", "TIDEMILL_NODE_")
_WORKSPACE: Final = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,62}[a-z0-9])?")
# as a browser writes it: no path, no slash at the end, no default port, and no *
_ORIGIN: Final = re.compile(r"https?://[a-z0-9.-]+(?::[0-9]{1,5})?|https?://\[[0-9a-f:]+\](?::[0-9]{1,5})?")
_MIB: Final = 1 << 20

Port = Annotated[int, Field(ge=0, le=65_535)]
Region = Annotated[str, Field(pattern=r"^[a-z0-9](?:[a-z0-9-]{0,62}[a-z0-9])?$")]
Bytes = Annotated[int, Field(ge=1)]
Domain = Annotated[str, Field(pattern=r"^[a-z0-9](?:[a-z0-9.-]{0,251}[a-z0-9])?$")]


class SettingsError(ValueError):
    """A setting that does not exist, or whose value it cannot have; the text says which and what would be right."""


def default_data_dir() -> Path:
    """``/var/lib/tidemill`` for root, else below ``$XDG_DATA_HOME``."""
    if os.geteuid() == 0:
        return Path("/var/lib/tidemill")
    home = os.environ.get("XDG_DATA_HOME")  # noqa: TID251 - this is the module that reads it
    return (Path(home) if home else Path.home() / ".local/share") / "tidemill"


class Settings(BaseSettings):
    """The values that one server runs with. Secrets are never shown."""

    model_config = SettingsConfigDict(env_prefix=PREFIX, frozen=True, extra="forbid", hide_input_in_errors=True)

    host: str = Field(default="127.0.0.1", description="Address that the server listens on.")
    port: Port = Field(default=8700, description="Port that the server listens on; 0 picks a free one.")
    data_dir: Path = Field(default_factory=default_data_dir, description="Directory of everything the server keeps.")
    config: Path | None = Field(default=None, description="TOML file with settings; flags and variables win over it.")
    engine: Literal["local"] = Field(default="local", description="What supplies nodes.")
    public_url: str = Field(
        default="", description="Origin that clients reach the server under; empty: as the request's Host says."
    )
    task_url: str = Field(
        default="", description="BL_API_URL of tasks; empty: the server's own loopback address with /v0."
    )
    region: Region = Field(default="local", description="Region of the server's own node, and of jobs that name none.")
    regions: tuple[Region, ...] = Field(
        default=(),
        description="Regions that jobs may name, as a JSON list; each needs a node to run its tasks. Absent: one "
        "region that goes by all names of the hosted service.",
    )
    plan: str = Field(default="self-hosted", description="What metadata.plan of jobs says.")
    log_level: Literal["debug", "info", "warning", "error"] = Field(default="info", description="Least level logged.")
    log_format: Literal["auto", "json", "console"] = Field(
        default="auto", description="Form of the log on stderr; auto: console on a terminal, else JSON."
    )
    bootstrap_workspace: str = Field(default="default", description="Workspace that is made at the first start.")
    bootstrap_api_key: SecretStr | None = Field(
        default=None, description="API key of its admin; absent: one is generated at the first start."
    )
    key_ring: SecretStr | None = Field(
        default=None, description="The key ring as JSON; absent: the file keyring.json in the data directory."
    )
    node_memory_mb: Annotated[int, Field(ge=64)] | None = Field(
        default=None, description="Memory that tasks may use in all, in MB; absent: the machine's, less a reserve."
    )
    node_slots: Annotated[int, Field(ge=1)] | None = Field(
        default=None, description="Tasks that may run at once on the node; absent: 32 a core."
    )
    task_limits: Literal["auto", "none"] = Field(
        default="auto", description="auto: cgroups limit tasks as far as the machine has any; none: they are not used."
    )
    task_pids: Annotated[int, Field(ge=16)] = Field(
        default=2048, description="Processes and threads that a task, or a build, may have at once (needs cgroups)."
    )
    task_cpu_quota: bool = Field(
        default=False,
        description="Whether a task gets no more than its share of CPU even when others leave some (needs cgroups).",
    )
    isolation: Literal["auto", "process", "sandbox", "container"] = Field(
        default="auto", description="How far tasks are confined (docs/isolation.md); auto: as far as this machine can."
    )
    minimum_isolation: Literal["process", "sandbox", "container"] | None = Field(
        default=None, description="Level below which the server refuses to start; absent: none."
    )
    task_uid_first: Annotated[int, Field(ge=1000, lt=(1 << 32) - 65_536)] = Field(
        default=200_000,
        description="Where a server that is root looks for numbers of users that tasks run as, each one of its own.",
    )
    task_uid_count: Annotated[int, Field(ge=0, le=1_000_000)] = Field(
        default=4096,
        description="How many such users there are, one of them for builds; 0: all run as the user of the server.",
    )
    dockerfile_uid_first: Annotated[int, Field(ge=0, lt=(1 << 32) - 65_536 * 2)] = Field(
        default=1_900_000_000,
        description="Where a server that is root looks for 65,536 numbers for the users in builds of Dockerfiles; 0: "
        "no Dockerfile is built.",
    )
    task_read_paths: tuple[Path, ...] = Field(
        default=(), description="Absolute paths, as a JSON list, that tasks and builds may read beside the system's."
    )
    task_write_paths: tuple[Path, ...] = Field(
        default=(), description="Absolute paths, as a JSON list, that tasks and builds may read and write."
    )
    task_forbidden_addresses: tuple[str, ...] = Field(
        default=METADATA_ADDRESSES,
        description="Addresses and networks, as a JSON list, that tasks and builds do not reach, but for DNS. Those of "
        "cloud metadata unless it is set; [] forbids none. Needs root, users of tasks (`task_uid_count`), and `nft`.",
    )
    task_disk_percent: Annotated[int, Field(ge=0, le=95)] = Field(
        default=50,
        description="What a task's own directory may hold, in percent of its memory, where its job has no "
        "`diskPercent`; 0: no bound.",
    )
    build_memory_mb: Annotated[int, Field(ge=64)] = Field(
        default=1024, description="Memory that a build may use, in MB; less where the biggest node has less."
    )
    build_timeout_s: Annotated[int, Field(ge=1)] = Field(default=1800, description="Longest build, in seconds.")
    kill_grace_s: Annotated[float, Field(ge=0)] = Field(
        default=10.0, description="Seconds between SIGTERM and SIGKILL of a task that is to end."
    )
    retention_days: Annotated[float, Field(ge=0.01)] = Field(
        default=30.0, description="Days for which executions that have ended, their results and their logs are kept."
    )
    audit_retention_days: Annotated[float, Field(ge=1, le=36_500)] | None = Field(
        default=None, description="Days for which rows of the audit are kept, to the whole day; absent: for ever."
    )
    max_tasks: Annotated[int, Field(ge=1, le=1_000_000)] = Field(
        default=1_000_000, description="Most tasks of one execution."
    )
    max_task_bytes: Bytes = Field(default=_MIB, description="Most bytes of one task's arguments.")
    max_result_bytes: Bytes = Field(default=_MIB, description="Most bytes of one task's result.")
    max_attempt_log_bytes: Bytes = Field(default=64 * _MIB, description="Most bytes of output kept of one attempt.")
    max_execution_body_bytes: Bytes = Field(
        default=256 * _MIB, description="Most bytes of a request that makes an execution."
    )
    max_body_bytes: Bytes = Field(default=4 * _MIB, description="Most bytes of any other request.")
    max_upload_bytes: Bytes = Field(default=512 * _MIB, description="Most bytes of an uploaded source archive.")
    max_unpacked_bytes: Bytes = Field(default=4096 * _MIB, description="Most bytes of a source archive unpacked.")
    max_unpacked_entries: Annotated[int, Field(ge=1)] = Field(
        default=200_000, description="Most files and folders of a source archive."
    )
    unauthenticated_per_s: Annotated[float, Field(ge=0)] = Field(
        default=20.0,
        description="Requests a second from one address without a good credential; more are 429. 0: no limit.",
    )
    authenticated_per_s: Annotated[float, Field(ge=0)] = Field(
        default=0.0, description="Requests a second with one credential; more are 429. 0: no limit."
    )
    trusted_proxies: tuple[IPv4Network | IPv6Network, ...] = Field(
        default=(),
        description="Addresses or networks, as a JSON list, of proxies whose X-Forwarded-For names the client.",
    )
    cors_origins: tuple[str, ...] = Field(
        default=(), description="Origins, as a JSON list, whose pages may call the API from a browser."
    )
    callback_allow: tuple[str, ...] = Field(
        default=(),
        description="Networks, addresses and names of hosts, as a JSON list, that callbacks may reach though they are "
        "not on the public Internet.",
    )
    max_header_bytes: Annotated[int, Field(ge=1024)] = Field(
        default=64 << 10, description="Most bytes of a request's path and headers; more are 431."
    )
    max_headers: Annotated[int, Field(ge=10)] = Field(default=100, description="Most headers of a request.")
    header_timeout_s: Annotated[float, Field(gt=0)] = Field(
        default=30.0, description="Seconds that the headers of a request may take to arrive; then it is 408."
    )
    min_body_bytes_per_s: Annotated[float, Field(ge=0)] = Field(
        default=8192.0,
        description="Bytes a second at which a body must arrive on the average, after the first header_timeout_s.",
    )
    answer_timeout_s: Annotated[float, Field(gt=0)] = Field(
        default=300.0, description="Seconds after which an answer that its client does not take is given up."
    )

    oidc_issuer: str = Field(
        default="",
        description="Issuer URL of the OpenID Connect provider that people may sign in through; empty: none.",
    )
    oidc_client_id: str = Field(default="", description="What this server is called at the provider.")
    oidc_client_secret: SecretStr | None = Field(
        default=None, description="Its secret there; absent: it is a public client, which PKCE alone protects."
    )
    oidc_name: str = Field(
        default="", max_length=64, description="What people call the provider, for the button; empty: its host's name."
    )
    oidc_scopes: str = Field(
        default="openid email profile",
        description="Scopes to ask the provider for, with blanks between; one is openid.",
    )
    oidc_domains: tuple[Domain, ...] = Field(
        default=(), description="Domains, as a JSON list, of which an address must be to sign in; empty: any."
    )
    oidc_claim: str = Field(
        default="",
        description="NAME=VALUE: a claim that must be VALUE, or a list with it, to sign in; empty: none is asked for.",
    )
    oidc_trusts_emails: bool = Field(
        default=False, description="Whether an address counts though the provider does not say that it is verified."
    )
    oidc_workspace: str = Field(
        default="",
        description="Workspace in which people without an account get one when they sign in; empty: only who was "
        "invited comes in.",
    )
    oidc_role: Literal["member", "admin"] = Field(default="member", description="Role that they get there.")
    oidc_timeout_s: Annotated[float, Field(gt=0, le=60)] = Field(
        default=10.0, description="Seconds that one answer of the provider may take."
    )

    @field_validator("bootstrap_workspace")
    @classmethod
    def _workspace_is_a_name(cls, value: str) -> str:
        if _WORKSPACE.fullmatch(value) is None or value in RESERVED_WORKSPACES:
            raise ValueError(
                f"{value!r} is no name of a workspace: 1 to 64 of a-z, 0-9 and -, not one of "
                + ", ".join(sorted(RESERVED_WORKSPACES))
            )
        return value

    @field_validator("public_url", "task_url")
    @classmethod
    def _url_has_no_slash_at_the_end(cls, value: str) -> str:
        if value and not value.startswith(("http://", "https://")):
            raise ValueError(f"{value!r} must begin with http:// or https://")
        return value.rstrip("/")

    @field_validator("cors_origins")
    @classmethod
    def _origins_are_whole(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for origin in value:
            if _ORIGIN.fullmatch(origin) is None:
                raise ValueError(
                    f"{origin!r} is no origin; it must be like https://console.example.com, in small letters"
                )
        return value

    @field_validator("oidc_issuer")
    @classmethod
    def _issuer_is_safe(cls, value: str) -> str:
        loopback = value.startswith("http://")
        if value and ("?" in value or not is_safe(value, loopback=loopback)):
            raise ValueError(
                f"{value!r} must be a URL of https without a query, as the provider writes it, or of this machine"
            )
        return value

    @field_validator("oidc_scopes")
    @classmethod
    def _scopes_have_openid(cls, value: str) -> str:
        if "openid" not in value.split():
            raise ValueError(f"{value!r} must have openid among its words")
        return value

    @field_validator("oidc_claim")
    @classmethod
    def _claim_has_a_value(cls, value: str) -> str:
        if value and not all(value.partition("=")):
            raise ValueError(f"{value!r} must be NAME=VALUE")
        return value

    @field_validator("callback_allow")
    @classmethod
    def _exceptions_are_networks_or_hosts(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        Allowed.parse(value)
        return value

    @field_validator("task_forbidden_addresses")
    @classmethod
    def _forbidden_are_addresses(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for text in value:
            try:
                ip_network(text)
            except ValueError as error:
                raise ValueError(f"{text!r} must be an address or a network, such as 10.0.0.0/8: {error}") from None
        return value

    @field_validator("task_read_paths", "task_write_paths")
    @classmethod
    def _paths_are_absolute(cls, value: tuple[Path, ...]) -> tuple[Path, ...]:
        for path in value:
            if not path.is_absolute():
                raise ValueError(f"{str(path)!r} must be an absolute path, such as /srv/data")
        return value

    @field_validator("data_dir")
    @classmethod
    def _absolute(cls, value: Path) -> Path:
        return value.expanduser().absolute()

    @model_validator(mode="after")
    def _own_region_is_one_of_the_regions(self) -> Self:
        if self.regions and self.region not in self.regions:
            raise ValueError(f"region is {self.region!r}; it must be one of regions: {', '.join(self.regions)}")
        return self

    @model_validator(mode="after")
    def _provider_is_whole(self) -> Self:
        given = [name for name in sorted(self.model_fields_set) if name.startswith("oidc_") and getattr(self, name)]
        if given and not self.oidc_issuer:
            raise ValueError(f"{given[0]} is set; oidc_issuer must be set as well")
        if self.oidc_issuer and not self.oidc_client_id:
            raise ValueError("oidc_issuer is set; oidc_client_id must be set as well")
        return self

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,  # noqa: ARG003 - the name is pydantic's
        file_secret_settings: PydanticBaseSettingsSource,  # noqa: ARG003
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Flags, then variables, then the file that one of them names."""
        named = init_settings().get("config") or env_settings().get("config")
        file = () if named is None else (TomlConfigSettingsSource(settings_cls, Path(named)),)
        return (init_settings, env_settings, *file)

    @classmethod
    def load(cls, flags: Mapping[str, object]) -> Self:
        """The settings of this process; a flag that is None was not given. Raises SettingsError."""
        given = {name: value for name, value in flags.items() if value is not None}
        variables = [name for name in os.environ if name.startswith(PREFIX)]  # noqa: TID251
        _check_names("variable", _ours(variables), [f"{PREFIX}{name.upper()}" for name in cls.model_fields])
        file = given.get("config") or os.environ.get(f"{PREFIX}CONFIG")  # noqa: TID251
        if file:
            _check_file(Path(str(file)), list(cls.model_fields))
        try:
            return cls(**given)  # type: ignore[arg-type]  # pydantic checks each of them
        except ValidationError as error:
            raise SettingsError(_sentence(error)) from None


@dataclass(frozen=True, slots=True, kw_only=True)
class Described:
    """One setting for a page of the documentation; ``default`` is text."""

    name: str
    default: str
    description: str


def described(settings: type[Settings]) -> list[Described]:
    """All settings in the order of their definition."""
    return [
        Described(name=name, default=_DEFAULT_WORDS.get(name, _shown(field)), description=field.description or "")
        for name, field in settings.model_fields.items()
    ]


def _shown(field: FieldInfo) -> str:
    return "" if field.default in {None, ""} else f"`{field.default}`"


_DEFAULT_WORDS: Final = {"data_dir": "`/var/lib/tidemill` as root, else `$XDG_DATA_HOME/tidemill`"}


def _ours(variables: Iterable[str]) -> list[str]:
    return [name for name in variables if name not in _OTHERS and not name.startswith(_OTHER_PREFIXES)]


def _check_file(path: Path, known: list[str]) -> None:
    try:
        document = tomllib.loads(path.read_text())
    except OSError as error:
        raise SettingsError(f"{path}: {error.strerror}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise SettingsError(f"{path}: not TOML: {error}") from error
    _check_names(f"setting in {path}", document, known)


def _check_names(what: str, names: Iterable[str], known: list[str]) -> None:
    for name in names:
        if name not in known:
            near = difflib.get_close_matches(name, known, n=1)
            raise SettingsError(f"unknown {what}: {name}" + (f"; did you mean {near[0]}?" if near else ""))


def _sentence(error: ValidationError) -> str:
    return "; ".join(
        f"{'.'.join(str(part) for part in each['loc'])}: {each['msg'].removeprefix('Value error, ')}"
        for each in error.errors(include_input=False, include_url=False, include_context=False)
    )
