"""Jobs and revisions: what a user defines, and the immutable snapshots of it."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Final

from tidemill.model.canary import Rollout
from tidemill.model.ids import JobKey
from tidemill.model.retry import RetryPolicy
from tidemill.model.states import JobState

JsonObject = Mapping[str, object]

DEFAULT_TIMEOUT_S: Final = 900
DEFAULT_MAX_RETRIES: Final = 0
DEFAULT_MAX_CONCURRENT_TASKS: Final = 10
DEFAULT_MEMORY_MB: Final = 2048
DEFAULT_GENERATION: Final = "mk3"
MIN_MEMORY_MB: Final = 16
MAX_TIMEOUT_S: Final = 86_400
MAX_RETRIES: Final = 100
MAX_CONCURRENT_TASKS: Final = 100_000
KEPT_REVISIONS: Final = 5
# what all variables of a job, or of an execution, may have together: both must fit beside each other into what Linux
# gives a program for arguments and environment (a quarter of the stack limit, 2 MiB)
MAX_ENVS_BYTES: Final = 512_000
MAX_ENV_BYTES: Final = 128_000  # Linux takes strings of up to 128 KiB in a program's environment
MASK: Final = "****"


class Network(StrEnum):
    """What a task reaches: the network of its node, or nothing but its own loopback."""

    ON = "on"
    NONE = "none"


@dataclass(frozen=True, slots=True, kw_only=True)
class Env:
    """One variable of a job. A secret one holds a sealed envelope in ``value``, never the text itself."""

    name: str
    value: str = field(repr=False)
    secret: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Runtime:
    """How tasks run. ``image`` is ``job/NAME:TAG``, empty before the first deploy. Without ``retry`` the default.

    ``extra`` keeps unknown members.
    """

    image: str = ""
    memory_mb: int = DEFAULT_MEMORY_MB
    timeout_s: int = DEFAULT_TIMEOUT_S
    max_retries: int = DEFAULT_MAX_RETRIES
    retry: RetryPolicy | None = None
    max_concurrent_tasks: int = DEFAULT_MAX_CONCURRENT_TASKS
    generation: str = DEFAULT_GENERATION
    network: Network = Network.ON
    envs: tuple[Env, ...] = ()
    extra: JsonObject = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class JobSpec:
    """What a revision freezes, and what all revisions share: ``enabled``, ``rollout`` and some of ``extra``.

    ``extra`` keeps members of the wire's spec that this server does not act on.
    """

    enabled: bool = True
    region: str = ""
    runtime: Runtime = field(default_factory=Runtime)
    rollout: Rollout = field(default_factory=Rollout)
    extra: JsonObject = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Revision:
    """One snapshot that a job keeps, and what it is to its job now.

    ``state`` is the job's own while the revision is staged, then DEPLOYED. ``percent`` of new executions run it.
    """

    id: str
    state: JobState
    active: bool
    canary: bool
    previous: bool
    percent: int
    created_at: datetime
    created_by: str


@dataclass(frozen=True, slots=True, kw_only=True)
class JobEvent:
    """Something that happened to a job, for its user: ``status`` is a JobState's word, ``message`` says why.

    ``canary`` is the id of the canary that was set then, empty for none.
    """

    at: datetime
    type: str
    status: str
    message: str
    revision: str
    canary: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """A definition as its user sees it. ``spec`` is the active revision's, else the staged one's.

    ``extra`` keeps members of the wire's metadata that we do not act on. ``callback_secrets`` are those that the
    request which this answers has made, by trigger: they are never shown again.
    """

    key: JobKey
    workspace: str
    name: str
    display_name: str
    external_id: str
    labels: Mapping[str, str]
    extra: JsonObject = field(default_factory=dict)
    state: JobState
    spec: JobSpec
    active_revision: str
    staged_revision: str
    events: tuple[JobEvent, ...]
    created_at: datetime
    created_by: str
    updated_at: datetime
    updated_by: str
    callback_secrets: Mapping[str, str] = field(default_factory=dict, repr=False)
