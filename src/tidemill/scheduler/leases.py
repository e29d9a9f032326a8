"""From attempts on record to leases: everything a node needs to run them."""

import base64
import json
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from tidemill.model.ids import AttemptId, InputSetKey, OwnerKind
from tidemill.model.image import image_blob, source_blob
from tidemill.model.job import Network
from tidemill.model.lease import BlobRef, BuildLease, Lease, Pull, TaskLease
from tidemill.model.volume import Volume, volumes_of
from tidemill.scheduler.policy import SchedulerPolicy
from tidemill.secrets import TASK_CLIENT_ID, KeyRing, KeyRingError
from tidemill.store import inputs, snapshot
from tidemill.store.database import Database
from tidemill.store.snapshot import BuildFacts, ExecutionFacts

# arguments and result lie in a task's directory, and have their own bounds
DISK_MIN_MB: Final = 4

_CREDENTIALS: Final = frozenset({"BL_API_KEY", "BL_CLIENT_CREDENTIALS"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Made:
    """Leases in the order of their attempts, and why there is none for others."""

    leases: Sequence[Lease]
    failed: Mapping[AttemptId, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Shared:
    """What all leases of one execution have in common; ``problem`` is why it cannot be had."""

    facts: ExecutionFacts
    environment: Mapping[str, str] = field(default_factory=dict, repr=False)
    network: Network = Network.ON
    volumes: tuple[Volume, ...] = ()
    disk_percent: int = 0
    problem: str = ""


class LeaseMaker:
    """Makes leases. Keeps what an execution's leases share, and arguments read ahead, within bounds. One thread."""

    def __init__(self, *, database: Database, keyring: KeyRing, policy: SchedulerPolicy) -> None:
        self._database = database
        self._keyring = keyring
        self._policy = policy
        self._shared: OrderedDict[int, _Shared] = OrderedDict()
        self._arguments = _Arguments(database, policy.kept_arguments_bytes)

    def make(self, attempts: Sequence[AttemptId], ttl_s: float | None = None) -> Made:
        """Leases for attempts that are on record. Opens secrets and decompresses, so not inside a transaction."""
        tasks = [attempt for attempt in attempts if attempt.kind is OwnerKind.TASK]
        shared = self._shared_of({attempt.owner for attempt in tasks})
        arguments = self._arguments_of(tasks, shared)
        keys = [attempt.owner for attempt in attempts if attempt.kind is OwnerKind.BUILD]
        builds = self._database.read(lambda connection: snapshot.build_facts(connection, keys)) if keys else {}
        leases: list[Lease] = []
        failed: dict[AttemptId, str] = {}
        for attempt in attempts:
            if attempt.kind is OwnerKind.BUILD:
                try:
                    leases.append(self._build(attempt, builds[attempt.owner], ttl_s))
                except KeyRingError as error:
                    failed[attempt] = f"its registry's credentials cannot be opened: {error}"
                continue
            common = shared[attempt.owner]
            text = arguments.get((common.facts.input_set, attempt.index))
            if common.problem or text is None:
                failed[attempt] = common.problem or f"the arguments of task {attempt.index} cannot be found"
            else:
                leases.append(self._task(attempt, common, text, ttl_s))
        return Made(leases=leases, failed=failed)

    def _shared_of(self, keys: set[int]) -> dict[int, _Shared]:
        new = [key for key in keys if key not in self._shared]
        if new:
            facts = self._database.read(lambda connection: snapshot.execution_facts(connection, new))
            for key in new:
                self._shared[key] = self._open(facts[key])
        found = {}
        for key in keys:
            found[key] = self._shared[key]
            self._shared.move_to_end(key)
        while len(self._shared) > self._policy.kept_executions:
            self._shared.popitem(last=False)
        return found

    def _open(self, facts: ExecutionFacts) -> _Shared:
        spec = facts.spec
        try:
            own = self._own_environment(facts)
        except ValueError as error:
            return _Shared(facts=facts, problem=f"its environment cannot be opened: {error}")
        environment = {**own, **_platform(facts, self._policy)}
        return _Shared(
            facts=facts,
            environment=environment,
            network=spec.runtime.network,
            # as the API has kept them
            volumes=volumes_of(spec.extra.get("volumes")),  # type: ignore[arg-type]
            disk_percent=spec.runtime.extra.get("diskPercent") or self._policy.disk_percent,  # type: ignore[arg-type]
        )

    def _own_environment(self, facts: ExecutionFacts) -> dict[str, str]:
        """What the user set; of a name that is in both, the execution's value."""
        found = {}
        for env in facts.spec.runtime.envs:
            about = f"revision/{facts.job}/{facts.revision}/{env.name}"
            found[env.name] = self._keyring.open(env.value, about) if env.secret else env.value
        if facts.env_sealed:
            found.update(json.loads(self._keyring.open(facts.env_sealed, f"execution/{facts.key}")))
        return found

    def _arguments_of(
        self, attempts: Sequence[AttemptId], shared: Mapping[int, _Shared]
    ) -> dict[tuple[InputSetKey, int], str]:
        wanted: dict[InputSetKey, set[int]] = {}
        for attempt in attempts:
            wanted.setdefault(shared[attempt.owner].facts.input_set, set()).add(attempt.index)
        return self._arguments.get(wanted)

    def _task(self, attempt: AttemptId, shared: _Shared, arguments: str, ttl_s: float | None) -> TaskLease:
        facts = shared.facts
        return TaskLease(
            attempt=attempt,
            log_key=facts.job,
            image=BlobRef(name=image_blob(facts.image_digest), digest=facts.image_digest),
            arguments=arguments,
            environment={
                **self._credential(attempt, shared),
                **shared.environment,
                "TIDEMILL_ATTEMPT_ID": f"{facts.id}/{attempt.index}/{attempt.number}",
                "TIDEMILL_ATTEMPT": str(attempt.number),
            },
            memory_mb=facts.memory_mb,
            timeout_s=facts.timeout_s,
            network=shared.network is Network.ON,
            volumes=shared.volumes,
            disk_mb=max(DISK_MIN_MB, facts.memory_mb * shared.disk_percent // 100) if shared.disk_percent else None,
            grace_s=self._policy.grace_s,
            result_max_bytes=self._policy.result_max_bytes,
            log_max_bytes=self._policy.log_max_bytes,
            ttl_s=ttl_s,
        )

    def _credential(self, attempt: AttemptId, shared: _Shared) -> dict[str, str]:
        """What the task shows this server, unless the user has set a credential: clients take the key first."""
        if not _CREDENTIALS.isdisjoint(shared.environment):
            return {}
        credential = self._keyring.task_credential(attempt)
        pair = base64.b64encode(f"{TASK_CLIENT_ID}:{credential}".encode()).decode()
        return {"BL_API_KEY": credential, "BL_CLIENT_CREDENTIALS": pair}

    def _build(self, attempt: AttemptId, facts: BuildFacts, ttl_s: float | None) -> BuildLease:
        return BuildLease(
            attempt=attempt,
            log_key=facts.job,
            source=None if facts.image else BlobRef(name=source_blob(facts.source_digest), digest=facts.source_digest),
            pull=self._pull(facts) if facts.image else None,
            memory_mb=facts.memory_mb,
            timeout_s=facts.timeout_s,
            max_unpacked_bytes=self._policy.unpacked_max_bytes,
            max_entries=self._policy.unpacked_max_entries,
            grace_s=self._policy.grace_s,
            log_max_bytes=self._policy.log_max_bytes,
            ttl_s=ttl_s,
        )

    def _pull(self, facts: BuildFacts) -> Pull:
        """Raises KeyRingError."""
        sealed = facts.credentials_sealed
        return Pull(
            reference=facts.image, credentials=self._keyring.open(sealed, f"build/{facts.key}") if sealed else ""
        )


class _Arguments:
    """Arguments of tasks, whole chunks at a time: tasks are claimed in order, so the neighbours are wanted next."""

    def __init__(self, database: Database, max_bytes: int) -> None:
        self._database = database
        self._max_bytes = max_bytes
        self._chunks: OrderedDict[tuple[InputSetKey, int], Mapping[int, str]] = OrderedDict()
        self._sizes: dict[tuple[InputSetKey, int], int] = {}
        self._at: dict[tuple[InputSetKey, int], int] = {}
        self._bytes = 0

    def get(self, wanted: Mapping[InputSetKey, set[int]]) -> dict[tuple[InputSetKey, int], str]:
        """The arguments of these tasks that exist. One read for those that are not kept."""
        found: dict[tuple[InputSetKey, int], str] = {}
        missing: dict[InputSetKey, list[int]] = {}
        for key, indices in wanted.items():
            for index in indices:
                first = self._at.get((key, index))
                if first is None:
                    missing.setdefault(key, []).append(index)
                else:
                    found[key, index] = self._chunks[key, first][index]
                    self._chunks.move_to_end((key, first))
        if missing:
            read = self._database.read(lambda connection: inputs.tasks_of_sets(connection, missing))
            for key, chunks in read.items():
                for chunk in chunks:
                    texts = inputs.decode([chunk], range(chunk.first_index, chunk.first_index + chunk.count))
                    found.update({(key, index): texts[index] for index in missing[key] if index in texts})
                    self._keep(key, chunk.first_index, texts)
        return found

    def _keep(self, key: InputSetKey, first: int, texts: Mapping[int, str]) -> None:
        name = (key, first)
        self._chunks[name] = texts
        self._sizes[name] = sum(map(len, texts.values()))
        self._bytes += self._sizes[name]
        self._at.update({(key, index): first for index in texts})
        while self._bytes > self._max_bytes and len(self._chunks) > 1:
            oldest, dropped = self._chunks.popitem(last=False)
            self._bytes -= self._sizes.pop(oldest)
            for index in dropped:
                del self._at[oldest[0], index]


def _platform(facts: ExecutionFacts, policy: SchedulerPolicy) -> dict[str, str]:
    """The variables that are the platform's own (docs/wire.md, contract 8.1); the node adds those of its listener."""
    return {
        "BL_EXECUTION_KEY": "BL_EXECUTION_ID",
        "BL_EXECUTION_ID": facts.id,
        "BL_WORKSPACE": facts.workspace,
        "BL_NAME": facts.job_name,
        "BL_TYPE": "job",
        "BL_API_URL": policy.task_url,
        "BL_RUN_URL": policy.run_url,
        "BL_REGION": facts.spec.region or policy.region,
        "BL_GENERATION": facts.spec.runtime.generation,
        "BL_CLOUD": "true",
        "BL_ENV": policy.environment,
        "DO_NOT_TRACK": "1",
    }
