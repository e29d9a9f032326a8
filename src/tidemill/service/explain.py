"""Why an execution or a task waits, or how it ended."""

from datetime import datetime

from tidemill.model.outlook import Outlook
from tidemill.model.why import Explanation, explain_execution, explain_task
from tidemill.service.parts import Parts
from tidemill.store.explain import Question, gather


def explain(parts: Parts, asked: Question, outlook: Outlook, *, now: datetime) -> Explanation:
    """What an execution, or one task of it, waits for, or how it ended. One read: see ``store.explain.gather``.

    Raises NotFound, Invalid for several executions.
    """
    found = parts.database.read(lambda connection: gather(connection, asked, outlook))
    if found.task is None:
        return explain_execution(found.execution, found.facts, now)
    return explain_task(found.execution, found.task, found.facts, now)
