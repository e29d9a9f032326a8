"""The users of a simulated world: what they wish for is chosen by dice, and what they were answered is remembered."""

import json
import random
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Final

from sqlalchemy import Connection, insert, select

from tidemill.model.errors import OutOfSpace, TidemillError
from tidemill.model.ids import BuildKey, ExecutionKey, InputSetKey, JobKey, oldest_key
from tidemill.model.image import source_blob
from tidemill.model.region import Regions
from tidemill.model.rerun import FAILED, NOT_SUCCEEDED, SAME, Selection
from tidemill.model.states import TaskState
from tidemill.model.trigger import CatchUp, Overlap
from tidemill.service.executions import aliases
from tidemill.service.specs import Editor, RuntimeChange, SpecChange
from tidemill.store import executions, inputs, job_writes, jobs, ledger, ranges, reruns, schema, uploads
from tidemill.store.executions import NewExecution
from tidemill.store.inputs import Chunk, NewInputs
from tidemill.store.job_writes import JobWrite, MetadataChange
from tidemill.store.reruns import NewRerun
from tidemill.store.uploads import NewBuild, NewUpload
from tidemill.testing.simulator.server import Server

IMAGE: Final = "d" * 64
SECRET: Final = "hush-hush-3c9f"  # noqa: S105 - made to be looked for
VISITOR: Final = "visitor"
NOTHING: Final = "nothing"
_JOBS: Final = ("etl", "train", "report", "mail")
_SUCCEEDED: Final = Selection(states=frozenset({TaskState.SUCCEEDED}))


@dataclass(slots=True, kw_only=True)
class Request:
    """A POST of an execution, or of a rerun of ``origin``. Its user sends it again until it is answered."""

    number: int
    workspace: str
    job: str
    id: str
    tasks: int
    apart: bool
    deadline_s: float | None = None
    origin: str = ""
    selection: Selection = FAILED
    answers: set[str] = field(default_factory=set)

    @property
    def request_id(self) -> str:
        return f"request-{self.number}"


class Users:
    """They ask a server, and know only what it answered.

    ``requests`` are all that were ever sent; ``cancelled`` holds the keys of executions whose cancel was confirmed.
    """

    def __init__(
        self, dice: random.Random, workspaces: Sequence[str], wall: Callable[[], datetime], *, triggers: bool
    ) -> None:
        self._dice = dice
        self._triggers = triggers
        self._workspaces = workspaces
        self._wall = wall
        self._last = 0
        self.requests: list[Request] = []
        self.unanswered: list[Request] = []
        self.cancelled: set[int] = set()
        self._uploads: list[tuple[str, str]] = []

    def settle_in(self, connection: Connection) -> None:
        """Make the workspaces, and an image that jobs may use from the beginning. The visitor's has no limits."""
        dice, now = self._dice, self._wall()
        for name in (*self._workspaces, VISITOR):
            quota, cap = dice.choice([1, 2, 3, 8]), dice.choice([None, None, 2, 5])
            connection.execute(
                insert(schema.workspace).values(
                    name=name,
                    display_name=name,
                    created_at=now,
                    max_parallel_executions=100 if name == VISITOR else quota,
                    max_concurrent_tasks=None if name == VISITOR else cap,
                )
            )
            connection.execute(
                insert(schema.image).values(
                    workspace=name, name="ready", tag="made", digest=IMAGE, size_bytes=1, created_at=now
                )
            )

    def act(self, server: Server) -> str:
        """One of them asks ``server`` for something; what, and what came of it. Raises Died."""
        wishes: list[tuple[int, Callable[[Server], str]]] = [
            (10, self._submit),
            (6, self.insist),
            (5, self._cancel),
            (5, self._rerun),
            (2, self._change),
            (3, self._upload),
            (5, self._send_bytes),
            (1, self._delete),
        ]
        if self._triggers:
            wishes += [(8, self._set_triggers)]
        ((_, wish),) = self._dice.choices(wishes, weights=[weight for weight, _ in wishes])
        try:
            return wish(server)
        except OutOfSpace:
            return f"{wish.__name__} found no room"
        except TidemillError as error:
            return f"{wish.__name__} was refused: {error.error_code}"

    def visit(self, server: Server) -> None:
        """Somebody without a backlog asks for one small task: how long it waits shows whether turns are fair."""
        runtime = RuntimeChange(memory_mb=100, timeout_s=900, max_retries=0, max_concurrent_tasks=1)
        write = self._write(server, VISITOR, "visit", SpecChange(runtime=runtime))
        now = self._wall()
        server.parts.database.write(
            lambda connection: job_writes.create(connection, replace(write, image="job/ready:made"), now=now)
        )
        number = len(self.requests) + 1
        request = Request(number=number, workspace=VISITOR, job="visit", id="", tasks=1, apart=False)
        self._ask(request)
        self.send(server, request)

    def insist(self, server: Server) -> str:
        """Send again what was not answered, or, out of doubt, what was. Raises Died, TidemillError."""
        if self.unanswered:
            return self.send(server, self._dice.choice(self.unanswered))
        if self.requests:
            return self.send(server, self._dice.choice(self.requests[-5:]))
        return "nothing to insist on"

    def send(self, server: Server, request: Request) -> str:
        """POST a request. A refusal is an answer; no answer is none. Raises Died, TidemillError."""
        try:
            answer = self._rerun_of(server, request) if request.origin else self._execution_of(server, request)
        except OutOfSpace:
            raise
        except TidemillError:
            self._answered(request)
            raise
        request.answers.add(answer)
        self._answered(request)
        return f"{request.request_id} is {answer}"

    def _answered(self, request: Request) -> None:
        if request in self.unanswered:
            self.unanswered.remove(request)

    def key(self) -> int:
        """As a server makes them: ordered by the time of making, never the same twice."""
        self._last += 1
        return oldest_key(int(self._wall().timestamp() * 1000)) + self._last

    def _new(self, server: Server, request: Request) -> NewExecution:
        key = ExecutionKey(self.key())
        execution_id = request.id or f"made-{key}"
        secret = request.number % 3 == 0
        sealed = server.parts.keyring.seal(json.dumps({"PASSWORD": SECRET}), f"execution/{key}") if secret else ""
        return NewExecution(
            key=key,
            id=execution_id,
            workspace=request.workspace,
            job=request.job,
            request_id=request.request_id,
            aliases=aliases(execution_id, request.request_id, ""),
            digest=f"{request.number:064}",
            env_names=("PASSWORD",) if secret else (),
            env_sealed=sealed,
            allow_queue=request.number % 7 != 0,
            deadline_at=None if request.deadline_s is None else self._wall() + timedelta(seconds=request.deadline_s),
        )

    def _ask(self, request: Request) -> None:
        self.requests.append(request)
        self.unanswered.append(request)

    def _submit(self, server: Server) -> str:
        dice, number = self._dice, len(self.requests) + 1
        workspace, job = dice.choice(self._workspaces), dice.choice(_JOBS)
        self._have_job(server, workspace, job)
        request = Request(
            number=number,
            workspace=workspace,
            job=job,
            id=f"chosen-{number}" if dice.random() < 0.5 else "",
            tasks=dice.choice([1, 1, 2, 3, 5, 9]),
            apart=dice.random() < 0.2,
            # every fifth: no dice, which would deal all that comes after anew
            deadline_s=(2.0, 20.0, 200.0)[number % 3] if number % 5 == 0 else None,
        )
        self._ask(request)
        return self.send(server, request)

    def _execution_of(self, server: Server, request: Request) -> str:
        now, database = self._wall(), server.parts.database
        new = self._new(server, request)
        stored = NewInputs(key=InputSetKey(self.key()), workspace=request.workspace, total=request.tasks, size_bytes=0)
        chunks: Sequence[Chunk] = list(inputs.encode(b'{"n":%d}' % index for index in range(request.tasks)))
        if request.apart:
            first = chunks
            database.write(lambda connection: inputs.add(connection, stored, first, now=now), wakes=False)
            chunks = ()
        return database.write(lambda connection: executions.create(connection, new, stored, chunks, now=now)).id

    def _rerun(self, server: Server) -> str:
        sent = [request for request in self.requests if request.answers]
        if not sent:
            return "nothing to run again"
        origin = self._dice.choice(sent)
        request = Request(
            number=len(self.requests) + 1,
            workspace=origin.workspace,
            job=origin.job,
            id="",
            tasks=0,
            apart=self._dice.random() < 0.3,
            origin=min(origin.answers),
            selection=self._dice.choice([FAILED, NOT_SUCCEEDED, NOT_SUCCEEDED, _SUCCEEDED]),
        )
        self._ask(request)
        return self.send(server, request)

    def _rerun_of(self, server: Server, request: Request) -> str:
        now, database = self._wall(), server.parts.database
        new = self._new(server, request)
        again = database.read(lambda connection: executions.repeated(connection, new))
        if again is not None:
            return again.id
        found = database.read(
            lambda connection: executions.find(connection, request.workspace, request.origin, request.job)
        )
        reruns.check_ended(found)
        total, selection = found.stats.total, request.selection
        runs = database.read(lambda connection: reruns.selected_rows(connection, found, selection, 0, total))
        runs += database.read(lambda connection: reruns.selected_rowless(connection, found, selection, 0, total))
        chosen = list(ranges.number(runs))
        count = sum(one.count for one in chosen)
        if not count:
            return NOTHING
        rerun = NewRerun(new=new, origin=found.key, revision=SAME, timeout_s=None, total=count)
        if request.apart:
            written = chosen
            database.write(lambda connection: ranges.add(connection, new.key, written), wakes=False)
            chosen = []
        return database.write(lambda connection: reruns.create(connection, rerun, chosen, now=now)).id

    def _cancel(self, server: Server) -> str:
        """Mostly of what has not ended, as a user would choose from a list."""
        now, database, execution = self._wall(), server.parts.database, schema.execution.c
        query = select(execution.key).order_by(execution.key)
        if self._dice.random() < 0.8:
            query = query.where(execution.completed_at.is_(None))
        keys = database.read(lambda connection: connection.scalars(query).all())
        if not keys:
            return "nothing to cancel"
        key, force = ExecutionKey(self._dice.choice(keys)), self._dice.random() < 0.6
        state = database.write(lambda connection: ledger.cancel_execution(connection, key, force=force, now=now))
        self.cancelled.add(key)
        return f"{key} is {state} by {'force' if force else 'wish'}"

    def _have_job(self, server: Server, workspace: str, name: str) -> None:
        """Deploy the job unless it is there: of an image that is ready."""
        known = server.parts.database.read(lambda connection: jobs.row_of(connection, workspace, name))
        if known is None:
            write = self._write(server, workspace, name, self._change_of_runtime())
            now = self._wall()
            server.parts.database.write(
                lambda connection: job_writes.create(connection, replace(write, image="job/ready:made"), now=now)
            )

    def _change(self, server: Server) -> str:
        """A PUT: other limits, or enabled or not."""
        dice, now = self._dice, self._wall()
        workspace, name = dice.choice(self._workspaces), dice.choice(_JOBS)
        change = SpecChange(enabled=dice.random() < 0.7) if dice.random() < 0.5 else self._change_of_runtime()
        write = self._write(server, workspace, name, change)
        job = server.parts.database.write(lambda connection: job_writes.put(connection, write, now=now))
        return f"job {workspace}/{name} is {job.state}"

    def _set_triggers(self, server: Server) -> str:
        """A PUT of some triggers, in the place of those that were."""
        dice, now = self._dice, self._wall()
        workspace, name = dice.choice(self._workspaces), dice.choice(_JOBS)
        self._have_job(server, workspace, name)
        kept = [self._trigger(f"t{number}") for number in range(dice.choice([0, 1, 1, 2, 3]))]
        write = self._write(server, workspace, name, SpecChange(extra={"triggers": kept}))
        server.parts.database.write(lambda connection: job_writes.put(connection, write, now=now))
        return f"job {workspace}/{name} has {len(kept)} triggers"

    def _trigger(self, name: str) -> Mapping[str, object]:
        dice = self._dice
        configuration = {
            "schedule": dice.choice(["* * * * *", "* * * * *", "*/2 * * * *", "*/7 * * * *"]),
            "catchUp": dice.choice(list(CatchUp)).value,
            "overlap": dice.choice(list(Overlap)).value,
            "tasks": [{"n": number} for number in range(dice.choice([1, 1, 2]))],
        }
        return {"id": name, "type": "cron", "enabled": dice.random() < 0.8, "configuration": configuration}

    def drop_triggers(self, server: Server) -> None:
        """All jobs without triggers from now on: else no world would come to rest."""
        now, database, job = self._wall(), server.parts.database, schema.job.c
        query = select(job.workspace, job.name).where(job.state.not_in(["DELETING", "TERMINATED"])).order_by(job.key)
        for row in database.read(lambda connection: connection.execute(query).all()):
            write = self._write(server, row.workspace, row.name, SpecChange(extra={"triggers": None}))
            with suppress(TidemillError):  # one that was never deployed has none that fire
                database.write(partial(job_writes.put, write=write, now=now))

    def _delete(self, server: Server) -> str:
        """DELETE of a job, as the service does it."""
        workspace, name = self._dice.choice(self._workspaces), self._dice.choice(_JOBS)
        now, database = self._wall(), server.parts.database
        more = True
        while more:
            job, more = database.write(lambda connection: job_writes.remove(connection, workspace, name, now=now))
        return f"job {workspace}/{name} is {job.state}"

    def _upload(self, server: Server) -> str:
        """A PUT after which bytes shall follow."""
        workspace, name = self._dice.choice(self._workspaces), self._dice.choice(_JOBS)
        capability = f"{self.key():064}"
        write = self._write(server, workspace, name, SpecChange())
        write = replace(write, upload=NewUpload(digest=capability, building_s=0))
        now, database = self._wall(), server.parts.database
        known = database.read(lambda connection: jobs.row_of(connection, workspace, name))
        if known is None:
            job = database.write(lambda connection: job_writes.create(connection, write, now=now))
        else:
            job = database.write(lambda connection: job_writes.put(connection, write, now=now))
        self._uploads.append((capability, f"{workspace}/{name}"))
        return f"job {workspace}/{name} is {job.state}"

    def _send_bytes(self, server: Server) -> str:
        """The bytes of an upload; now and then they never come."""
        if not self._uploads:
            return "nothing to send"
        capability, name = self._uploads.pop(0)
        if self._dice.random() < 0.1:
            return f"the bytes of {name} never come"
        now, parts = self._wall(), server.service
        parts.database.write(lambda connection: uploads.begin(connection, capability, now=now), wakes=False)
        digest = f"{self._dice.getrandbits(256):064x}"
        parts.blobs.take_file(source_blob(digest), _file(parts.arrivals, digest))
        build = NewBuild(
            key=BuildKey(self.key()),
            source_digest=digest,
            size_bytes=1,
            memory_mb=self._dice.choice([500, 2_000]),
            timeout_s=600,
        )
        parts.database.write(lambda connection: uploads.take(connection, capability, build, now=now))
        return f"the bytes of {name} were taken"

    def _change_of_runtime(self) -> SpecChange:
        dice = self._dice
        runtime = RuntimeChange(
            memory_mb=dice.choice([100, 100, 1_000, 3_000, 7_000]),
            timeout_s=dice.choice([2, 900]),
            max_retries=dice.choice([0, 0, 1, 2]),
            max_concurrent_tasks=dice.choice([1, 2, 3, 10]),
        )
        return SpecChange(runtime=runtime)

    def _write(self, server: Server, workspace: str, name: str, change: SpecChange) -> JobWrite:
        return JobWrite(
            key=JobKey(self.key()),
            workspace=workspace,
            name=name,
            by="a user",
            metadata=MetadataChange(),
            editor=Editor(change=change, regions=Regions(), keyring=server.parts.keyring),
            upload=None,
        )


def _file(folder: Path, digest: str) -> Path:
    """An archive that has arrived."""
    folder.mkdir(exist_ok=True)
    path = folder / digest[:16]
    path.write_bytes(b"z")
    return path
