"""What server and node say to each other. Standard library only: the node imports nothing heavier.

Times are seconds since the epoch (float, UTC) here, because they travel; inside the server they are aware datetimes.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from tidemill.model.ids import AttemptId, NodeId
from tidemill.model.protections import Stated
from tidemill.model.volume import Volume

PROTOCOL_VERSION = 1


class OutcomeKind(StrEnum):
    SUCCEEDED = "succeeded"
    EXIT_CODE = "exit_code"
    SIGNAL = "signal"
    OUT_OF_MEMORY = "out_of_memory"
    TIMED_OUT = "timed_out"
    CANCELLED = "cancelled"
    LAUNCH_ERROR = "launch_error"
    LOST = "lost"
    WITHDRAWN = "withdrawn"


class EventKind(StrEnum):
    STARTED = "started"
    ENDED = "ended"


class Severity(StrEnum):
    FATAL = "FATAL"
    ERROR = "ERROR"
    WARNING = "WARNING"
    INFO = "INFO"
    DEBUG = "DEBUG"
    TRACE = "TRACE"
    UNKNOWN = "UNKNOWN"


class Stream(StrEnum):
    STDOUT = "stdout"
    STDERR = "stderr"


@dataclass(frozen=True, slots=True, kw_only=True)
class BlobRef:
    """Bytes in the blob store. ``url`` is where a node takes them from; only engines fill it in."""

    name: str
    digest: str
    url: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskLease:
    """An attempt of a task, complete: a node needs no other word from the server to run it.

    ``arguments`` is the task's JSON object as text. ``environment`` holds secrets: never logged, never journaled.
    ``log_key`` names the job whose log the output belongs to. ``timeout_s`` counts from the process's start. Without
    ``network`` it runs where there is none, or not at all; so it does with ``volumes``.
    ``disk_mb`` is what its private directory may hold; None: no bound.
    """

    attempt: AttemptId
    log_key: int
    image: BlobRef
    arguments: str
    environment: Mapping[str, str] = field(repr=False)
    memory_mb: int
    timeout_s: float
    network: bool = True
    volumes: tuple[Volume, ...] = ()
    disk_mb: int | None = None
    grace_s: float = 10.0
    result_max_bytes: int = 1 << 20
    log_max_bytes: int = 64 << 20
    ttl_s: float | None = None

    @property
    def weight(self) -> int:
        """About how many characters it takes to send it."""
        return len(self.arguments) + sum(len(name) + len(value) for name, value in self.environment.items())


@dataclass(frozen=True, slots=True, kw_only=True)
class Pull:
    """An image of a registry to be fetched. ``credentials`` are ``USER:PASSWORD`` for that registry, or empty."""

    reference: str
    credentials: str = field(default="", repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class BuildLease:
    """An attempt of a build: from a source archive to an image, which goes to ``upload_url`` (filled by engines).

    With ``pull`` there is no source: the image is one of a registry.
    """

    attempt: AttemptId
    log_key: int
    source: BlobRef | None
    pull: Pull | None = None
    upload_url: str = ""
    memory_mb: int
    timeout_s: float
    max_unpacked_bytes: int
    max_entries: int
    grace_s: float = 10.0
    log_max_bytes: int = 64 << 20
    ttl_s: float | None = None


Lease = TaskLease | BuildLease


class Refusal(StrEnum):
    """Why a node did not take a lease. Anything else a node cannot do shows as the attempt's outcome."""

    CLOSING = "closing"


@dataclass(frozen=True, slots=True, kw_only=True)
class Acknowledgement:
    """The node holds this lease from now on (or, with ``refused``, does not)."""

    attempt: AttemptId
    refused: Refusal | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """How an attempt ended. ``result`` is the JSON text the task left; of a build, its JSON description of the image.

    ``message`` is for a person and names limits and figures. ``planned`` marks a loss by an ordered stop.
    A failure of ours (an image that could not be fetched) is LOST, never LAUNCH_ERROR. ``protections`` is what it ran
    with (model/protections.py: Had.to_number), None when it never ran.
    """

    kind: OutcomeKind
    exit_code: int | None = None
    signal: int | None = None
    message: str = ""
    started_at: float | None = None
    ended_at: float
    peak_memory_bytes: int | None = None
    cpu_s: float | None = None
    result: str | None = None
    result_error: str | None = None
    planned: bool = False
    protections: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """``number`` counts from 1 within the node's incarnation. ``outcome`` is set exactly when ``kind`` is ENDED.

    ``protections`` of a STARTED one is what the attempt runs with, None where the engine does not say it.
    """

    number: int
    attempt: AttemptId
    kind: EventKind
    at: float
    outcome: Outcome | None = None
    protections: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Position:
    """Up to where a reader has committed what it read. A position of another incarnation counts as 0."""

    incarnation: str = ""
    number: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class EventBatch:
    """Events after a position, in order. ``log_head`` is the highest number of a log block that waits (0: none)."""

    incarnation: str
    events: tuple[Event, ...]
    log_head: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class LogBlock:
    """A compressed piece of one owner's output.

    ``data`` is zlib of UTF-8 lines in time order: JSON arrays ``[index, attempt, stream, at_ns, severity, text]``.
    ``block_id`` is unique for the node's data directory, across incarnations: the same block twice is one block.
    ``lines`` counts them per severity. ``cut`` is true when output was dropped right after this block (a cap).
    """

    number: int
    block_id: str
    log_key: int
    kind: str
    owner: int
    first_index: int
    last_index: int
    first_at: float
    last_at: float
    lines: Mapping[str, int]
    data: bytes
    cut: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class LogBatch:
    incarnation: str
    blocks: tuple[LogBlock, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeInfo:
    """What a node is and has. ``memory_mb`` and ``slots`` are what leases may use in all (the reserve is taken off).

    ``images`` are the digests of the images it has unpacked. ``lease_ttl_s`` is set where another node could get its
    work: then leases given to it carry that time to live and must be renewed. ``level`` is the isolation of its tasks
    and ``protections`` are what it has of each and lacks, in the words of doctor; empty where an engine does not say.
    """

    id: NodeId
    region: str
    memory_mb: int
    slots: int
    incarnation: str
    protocol_version: int = PROTOCOL_VERSION
    capabilities: frozenset[str] = frozenset()
    images: frozenset[str] = frozenset()
    lease_ttl_s: float | None = None
    level: str = ""
    protections: tuple[Stated, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Inventory:
    """Every attempt the node knows: queued, running, or ended and not yet acknowledged."""

    incarnation: str
    attempts: frozenset[AttemptId]
