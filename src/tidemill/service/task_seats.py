"""What a task's credential proves: which attempt lives, and the one execution that it may read."""

from dataclasses import dataclass

from tidemill.model.ids import AttemptId
from tidemill.model.principal import TASK_SCOPES, OwnExecution, Principal, PrincipalKind, Role
from tidemill.service.parts import Parts
from tidemill.store import attempts


@dataclass(frozen=True, slots=True)
class Seat:
    """A live attempt of a task. ``name`` is EXECUTION/INDEX/NUMBER, by which the task is known to its user."""

    attempt: AttemptId
    name: str
    workspace: str
    execution: OwnExecution

    @property
    def principal(self) -> Principal:
        """The task as a caller: it reads its own execution."""
        return Principal(
            id=self.name,
            workspace=self.workspace,
            role=Role.MEMBER,
            kind=PrincipalKind.TASK,
            scopes=TASK_SCOPES,
            execution=self.execution,
        )


def of_credential(parts: Parts, credential: str) -> Seat | None:
    """None for a credential that no key of the ring has made, and for one whose attempt has ended. One statement."""
    attempt = parts.keyring.attempt_of(credential)
    return None if attempt is None else of_attempt(parts, attempt)


def of_attempt(parts: Parts, attempt: AttemptId) -> Seat | None:
    """None once it has ended. One statement, by three primary keys."""
    found = parts.database.read(lambda connection: attempts.seat(connection, attempt))
    if found is None:
        return None
    name = f"{found.execution}/{attempt.index}/{attempt.number}"
    return Seat(attempt, name, found.workspace, OwnExecution(found.job, found.execution))
