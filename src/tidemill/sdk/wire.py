"""The objects of the wire as the client hands them on: what the server sent, with types for what is read here.

They stay dictionaries: a member that this version does not know is kept and shown by `-o json`. Nothing is required,
since servers of other ages leave members out. Names and enums are those of docs/wire.md (contract 4.3 to 4.11, 6.1).
"""

from typing import Any, Final, Required, TypeAlias, TypedDict

Json: TypeAlias = Any
"""Any JSON value: where it enters, its type is not known."""

ENDED: Final = frozenset({"succeeded", "failed", "cancelled", "timeout"})
"""States of an execution that never change again."""


class Event(TypedDict, total=False):
    """Something that happened to a job; `status` is the job's state at that time."""

    time: str
    type: str
    status: str
    message: str
    revision: str


class JobMetadata(TypedDict, total=False):
    name: str
    displayName: str
    workspace: str
    labels: dict[str, str]
    createdAt: str
    updatedAt: str
    url: str


class JobSpec(TypedDict, total=False):
    enabled: bool
    region: str
    runtime: dict[str, Json]
    revision: dict[str, Json]
    triggers: list[dict[str, Json]]


class Job(TypedDict, total=False):
    metadata: JobMetadata
    spec: JobSpec
    events: list[Event] | None
    status: str


class Created(TypedDict, total=False):
    """The answer to a new execution."""

    executionId: str
    id: str
    jobId: str
    workspaceId: str


class Stats(TypedDict, total=False):
    """How many tasks of an execution are where; `total` is all of them, waiting ones are in no other count."""

    total: int
    running: int
    success: int
    failure: int
    retried: int
    cancelled: int


class ExecutionMetadata(TypedDict, total=False):
    id: str
    job: str
    workspace: str
    createdAt: str
    startedAt: str
    completedAt: str


class TaskMetadata(TypedDict, total=False):
    name: str
    createdAt: str
    startedAt: str
    completedAt: str


class Condition(TypedDict, total=False):
    type: str
    state: str
    reason: str
    message: str
    severity: str


class Protections(TypedDict, total=False):
    """What an attempt ran with: names of protections, and `by` which way where there are several."""

    level: str
    active: list[str]
    missing: list[str]
    by: dict[str, str]


class Attempt(TypedDict, total=False):
    """One try of a task. `outcome` and `completedAt` are missing while it is live, figures where nobody measured."""

    number: int
    node: str
    outcome: str
    message: str
    exitCode: int
    signal: int
    charged: bool
    peakMemoryBytes: int
    cpuSeconds: float
    protections: Protections
    createdAt: str
    startedAt: str
    completedAt: str


class Task(TypedDict, total=False):
    """`attemptCount` counts all tries; `attempts`, the newest of them, is there only where one task was asked for."""

    metadata: TaskMetadata
    spec: dict[str, Json]
    status: str
    attemptCount: int
    attempts: list[Attempt]
    conditions: list[Condition]


class Execution(TypedDict, total=False):
    metadata: ExecutionMetadata
    spec: dict[str, Json]
    stats: Stats
    status: str
    tasks: list[Task]


class Failures(TypedDict, total=False):
    """Tasks that failed for one reason: how many, and the first of them."""

    reason: str
    count: int
    more: bool
    firstIndex: int
    message: str
    exitCode: int
    signal: int


class Explanation(TypedDict, total=False):
    """Why something waits, or how it ended: a sentence, its word, and the facts that apply."""

    summary: str
    reason: str
    cap: str
    limit: int
    used: int
    holders: list[str]
    until: str
    since: str
    node: str
    condition: str
    message: str
    exitCode: int
    signal: int
    failures: list[Failures]
    protections: Protections


class ResultError(TypedDict, total=False):
    reason: str
    message: str


class ResultLine(TypedDict, total=False):
    """How one task ended. `result` is the JSON that the task wrote, null when it wrote none."""

    index: int
    status: str
    executionId: str
    result: Json
    attempts: int
    startedAt: str
    completedAt: str
    error: ResultError


class LogLine(TypedDict, total=False):
    """One line of output. `severity` is an OpenTelemetry number: 9 is INFO, 17 ERROR.

    The last three say where it came from; lines of builds have no `task`.
    """

    timestamp: str
    message: str
    severity: int
    trace_id: str
    task: str
    attempt: int
    stream: str


class LogPage(TypedDict, total=False):
    """Lines newest first, and how many there are in all."""

    logs: list[LogLine]
    totalCount: int


class FeedEvent(TypedDict, total=False):
    """A change of a job (`type` is `job`), an execution or a task."""

    seq: int
    type: str
    at: str
    job: str
    status: str
    execution: str
    task: str
    attempt: int
    reason: str
    message: str
    exitCode: int


class EventPage(TypedDict):
    """Events in order. `next` is the `after` of the next page; with `more` there is one already."""

    events: list[FeedEvent]
    next: int
    more: bool


class LastRun(TypedDict, total=False):
    """What became of a trigger's last due time. `outcome` is fired or skipped, `reason` says why it was skipped."""

    dueAt: str
    outcome: str
    reason: str
    executionId: str
    status: str


class Trigger(TypedDict, total=False):
    """A trigger of a job. `nextRuns` and `lastRun` are ours; `configuration` is as the job's spec has it."""

    id: Required[str]
    type: str
    enabled: bool
    configuration: dict[str, Json]
    nextRuns: list[str]
    lastRun: LastRun


class NodeProtection(TypedDict, total=False):
    """What a node says of one of its protections, and how to get one that is not `active`."""

    name: Required[str]
    active: bool
    says: str
    remedy: str


class Node(TypedDict, total=False):
    """A machine that runs tasks, ours. `memory` is in MB; it and `slots` are what tasks may use in all."""

    id: Required[str]
    region: str
    memory: int
    slots: int
    isolation: str
    protections: list[NodeProtection]
    seenAt: str


class Workspace(TypedDict, total=False):
    name: str
    displayName: str
    createdAt: str


class Token(TypedDict, total=False):
    """What the token service answers (contract 2.3). `expires_in` is in seconds."""

    access_token: Required[str]
    expires_in: Required[int]
    refresh_token: str
    token_type: str


class DeviceLogin(TypedDict, total=False):
    """A login that waits for somebody to approve it in a browser (contract 2.4). Times are in seconds."""

    device_code: Required[str]
    user_code: Required[str]
    verification_uri: Required[str]
    verification_uri_complete: str
    expires_in: Required[int]
    interval: Required[int]


class Key(TypedDict, total=False):
    """A key of the server's key ring, and how many envelopes in the ledger need it."""

    id: str
    active: bool
    held: bool
    envelopes: int


class PasswordReset(TypedDict, total=False):
    """A link with which somebody sets a password, once, until `expiresAt`. Who has it has the account."""

    url: str
    expiresAt: str


class SigningKey(TypedDict, total=False):
    """A key of tokens. `active`: it signs; else what it signed is good until `verifiesUntil`."""

    id: str
    active: bool
    createdAt: str
    verifiesUntil: str | None


class SigningKeys(TypedDict, total=False):
    """Those whose tokens may still be good, the newest first."""

    signing: list[SigningKey]


class UnopenedEnvelope(TypedDict, total=False):
    """What does not open with the key that it names: where it is."""

    table: str
    id: str
    key: str


class Keys(SigningKeys, total=False):
    """`done`: everything that opens is sealed with the active key. `made`: this request made that key.

    `unopened`: the first 100 of those that do not open, once it is done.
    """

    keys: list[Key]
    unopened: list[UnopenedEnvelope]
    done: bool
    made: bool
