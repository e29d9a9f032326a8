"""The invariants of the ledger, as queries: what tests, drills and ``tidemill doctor --ledger`` ask.

Each query finds rows that must not exist. They read whole tables: not for the hot path.
"""

from collections.abc import Mapping
from typing import Final

from sqlalchemy import Connection, text

from tidemill.model.execution import LOST_LIMIT

SHOWN: Final = 20


ALWAYS: Final[Mapping[str, str]] = {
    "I2: a task has ended exactly when it says when": """
        SELECT execution, idx, state FROM task
         WHERE (state IN ('succeeded', 'failed', 'cancelled')) <> (ended_at IS NOT NULL)""",
    "I2: an execution has completed exactly when it says when": """
        SELECT key, state FROM execution
         WHERE (state IN ('succeeded', 'failed', 'cancelled')) <> (completed_at IS NOT NULL)""",
    "I2: an execution that has completed runs nothing": """
        SELECT key, state, running FROM execution
         WHERE state IN ('succeeded', 'failed', 'cancelled') AND running <> 0""",
    "I2: an execution's end says what its tasks' ends say": """
        SELECT key, state, total, succeeded, failed, cancelled FROM execution
         WHERE (state = 'succeeded' AND succeeded <> total)
            OR (state = 'failed' AND NOT timed_out AND (succeeded = total OR succeeded + failed + cancelled <> total))
            OR (state = 'running' AND succeeded + failed + cancelled = total)""",
    "I2: what timed out had a deadline, is ended by force and has failed in the end": """
        SELECT key, state, force, deadline_at FROM execution
         WHERE timed_out = 1 AND (deadline_at IS NULL OR force = 0 OR state NOT IN ('cancelling', 'failed'))""",
    "I3: at most one attempt of a task succeeded, and it is the last": """
        SELECT a.owner, a.idx, a.number FROM attempt a
          JOIN task t ON t.execution = a.owner AND t.idx = a.idx
         WHERE a.kind = 't' AND a.outcome = 'succeeded' AND (a.number <> t.attempt OR t.state <> 'succeeded')""",
    "I3: a task that succeeded has an attempt that did": """
        SELECT t.execution, t.idx FROM task t
          LEFT JOIN attempt a ON a.kind = 't' AND a.owner = t.execution AND a.idx = t.idx AND a.number = t.attempt
         WHERE t.state = 'succeeded' AND a.outcome IS NOT 'succeeded'
           AND t.execution NOT IN (SELECT key FROM forgotten)""",
    "I3: a result is that of the task's last attempt": """
        SELECT r.execution, r.idx, r.attempt FROM result r
          LEFT JOIN task t ON t.execution = r.execution AND t.idx = r.idx
         WHERE (t.attempt IS NOT r.attempt OR t.has_result IS NOT 1 OR t.ended_at IS NULL)
           AND r.execution NOT IN (SELECT key FROM forgotten)""",
    "I3: a task with a result has one": """
        SELECT t.execution, t.idx FROM task t
          LEFT JOIN result r ON r.execution = t.execution AND r.idx = t.idx
         WHERE t.has_result = 1 AND r.idx IS NULL AND t.execution NOT IN (SELECT key FROM forgotten)""",
    "I4: no more attempts are charged than the user allows": """
        SELECT t.execution, t.idx, t.charged, e.max_retries FROM task t JOIN execution e ON e.key = t.execution
         WHERE t.charged > 1 + e.max_retries""",
    "I4: what a task was charged is what its attempts were": """
        SELECT t.execution, t.idx, t.charged, COALESCE(SUM(a.charged), 0) AS found FROM task t
          LEFT JOIN attempt a ON a.kind = 't' AND a.owner = t.execution AND a.idx = t.idx
         WHERE t.execution NOT IN (SELECT key FROM forgotten)
         GROUP BY t.execution, t.idx, t.charged HAVING t.charged <> COALESCE(SUM(a.charged), 0)""",
    "I4: no attempt that was lost or taken back is charged": """
        SELECT owner, idx, number, outcome FROM attempt
         WHERE charged <> 0 AND outcome IN ('lost', 'withdrawn', 'cancelled', 'succeeded')""",
    "I4: losses in a row are bounded": """
        SELECT execution, idx, lost_in_row FROM task
         WHERE lost_in_row > :lost_limit OR (lost_in_row = :lost_limit AND ended_at IS NULL)""",
    "I5: live attempts stay within their execution's parallelism": """
        SELECT a.owner, COUNT(*) AS live, e.parallelism FROM attempt a JOIN execution e ON e.key = a.owner
         WHERE a.kind = 't' AND a.ended_at IS NULL GROUP BY a.owner, e.parallelism HAVING COUNT(*) > e.parallelism""",
    "I5: live attempts stay within their workspace's tasks": """
        SELECT a.workspace, COUNT(*) AS live, w.max_concurrent_tasks FROM attempt a
          JOIN workspace w ON w.name = a.workspace
         WHERE a.kind = 't' AND a.ended_at IS NULL AND w.max_concurrent_tasks IS NOT NULL
         GROUP BY a.workspace, w.max_concurrent_tasks HAVING COUNT(*) > w.max_concurrent_tasks""",
    "I5: live attempts stay within their node": """
        SELECT a.node, COUNT(*) AS live, n.slots, SUM(a.memory_mb) AS used_mb, n.memory_mb FROM attempt a
          JOIN node n ON n.id = a.node
         WHERE a.ended_at IS NULL GROUP BY a.node, n.slots, n.memory_mb
        HAVING COUNT(*) > n.slots OR SUM(a.memory_mb) > n.memory_mb""",
    "I5: an attempt that runs alone has its node to itself": """
        SELECT a.node, COUNT(*) AS live FROM attempt a WHERE a.ended_at IS NULL
         GROUP BY a.node HAVING MAX(a.alone) = 1 AND COUNT(*) > 1""",
    "I5: live executions stay within their workspace": """
        SELECT e.workspace, COUNT(*) AS live, w.max_parallel_executions FROM execution e
          JOIN workspace w ON w.name = e.workspace WHERE e.state IN ('pending', 'running', 'cancelling')
         GROUP BY e.workspace, w.max_parallel_executions HAVING COUNT(*) > w.max_parallel_executions""",
    "I6: counters are the fold of the tasks": """
        SELECT e.key, e.next_index, e.waiting, e.running, e.succeeded, e.failed, e.cancelled, f.* FROM execution e
          LEFT JOIN (SELECT execution, COUNT(*) AS n, SUM(state = 'pending') AS p, SUM(state = 'running') AS r,
                            SUM(state = 'succeeded') AS s, SUM(state = 'failed') AS x, SUM(state = 'cancelled') AS c
                       FROM task GROUP BY execution) f ON f.execution = e.key
         WHERE e.next_index <> COALESCE(f.n, 0) OR e.waiting <> COALESCE(f.p, 0) OR e.running <> COALESCE(f.r, 0)
            OR e.succeeded <> COALESCE(f.s, 0) OR e.failed <> COALESCE(f.x, 0) OR e.cancelled <> COALESCE(f.c, 0)""",
    "I6: tasks with rows are those below next_index": """
        SELECT t.execution, t.idx, e.next_index FROM task t JOIN execution e ON e.key = t.execution
          LEFT JOIN task_range r ON r.execution = t.execution AND t.idx < r.first_index + r.count
           AND r.first_index = (SELECT MAX(first_index) FROM task_range
                                 WHERE execution = t.execution AND first_index <= t.idx)
         WHERE e.next_index > e.total
            OR COALESCE(CASE WHEN e.origin IS NULL THEN t.idx ELSE r.first_position + t.idx - r.first_index END,
                        e.total) >= e.next_index""",
    "I6: a rerun, and nothing else, has ranges, as many tasks as its total": """
        SELECT e.key, e.origin, e.total, COALESCE(SUM(r.count), 0) AS found FROM execution e
          LEFT JOIN task_range r ON r.execution = e.key GROUP BY e.key
        HAVING COALESCE(SUM(r.count), 0) <> CASE WHEN e.origin IS NULL THEN 0 ELSE e.total END""",
    "I6: ranges follow each other": """
        SELECT * FROM (
            SELECT execution, first_position, first_index, count,
                   LAG(first_position + count, 1, 0) OVER w AS next_position,
                   LAG(first_index + count, 1, 0) OVER w AS next_index
              FROM task_range WHERE execution NOT IN (SELECT key FROM forgotten)
            WINDOW w AS (PARTITION BY execution ORDER BY first_position))
         WHERE first_position <> next_position OR first_index < next_index OR count < 1""",
    "I6: a rerun is of its origin's chain and inputs": """
        SELECT r.key, r.origin FROM execution r LEFT JOIN execution o ON o.key = r.origin
         WHERE CASE WHEN r.origin IS NULL THEN r.chain <> r.key
                    ELSE r.chain <> o.chain OR r.input_set <> o.input_set END""",
    "I6: retries started are charged attempts that another followed": """
        SELECT e.key, e.retried, COALESCE(f.n, 0) AS found FROM execution e
          LEFT JOIN (SELECT a.owner, COUNT(*) AS n FROM attempt a
                       JOIN task t ON t.execution = a.owner AND t.idx = a.idx
                      WHERE a.kind = 't' AND a.charged = 1 AND a.number < t.attempt GROUP BY a.owner) f
            ON f.owner = e.key
         WHERE e.retried <> COALESCE(f.n, 0)""",
    # what is older than the first event that is kept had none, or lost it to the sweep
    "I8: an execution's last event says its state": """
        SELECT e.key, e.state, v.status FROM execution e
          LEFT JOIN (SELECT key, status, MAX(number) FROM event WHERE execution <> '' GROUP BY key) v ON v.key = e.key
         WHERE v.status IS NOT e.state
           AND (v.status IS NOT NULL OR e.created_at > (SELECT MIN(at) FROM event))""",
    "I8: a task's last attempt has the number of its last change": """
        SELECT a.owner, a.idx, a.number FROM attempt a
          JOIN task t ON t.execution = a.owner AND t.idx = a.idx AND t.attempt = a.number
         WHERE a.kind = 't' AND a.change IS NULL AND a.claimed_at >= (SELECT MIN(at) FROM event)""",
    "I8: no number is given twice, or beyond the line": """
        SELECT number, COUNT(*) AS times FROM (
            SELECT change AS number FROM attempt WHERE change IS NOT NULL UNION ALL SELECT number FROM event)
         GROUP BY number HAVING COUNT(*) > 1 OR number > (SELECT last FROM event_line)""",
    "I9: a live attempt of a task is the one that its task runs": """
        SELECT a.owner, a.idx, a.number, t.state, t.attempt FROM attempt a
          LEFT JOIN task t ON t.execution = a.owner AND t.idx = a.idx
         WHERE a.kind = 't' AND a.ended_at IS NULL AND (t.state IS NOT 'running' OR t.attempt <> a.number)""",
    "I9: a running task has a live attempt": """
        SELECT t.execution, t.idx, t.attempt FROM task t
          LEFT JOIN attempt a ON a.kind = 't' AND a.owner = t.execution AND a.idx = t.idx AND a.number = t.attempt
         WHERE t.state = 'running' AND (a.number IS NULL OR a.ended_at IS NOT NULL)""",
    "I9: a running build has a live attempt": """
        SELECT b.key, b.attempt FROM build b
          LEFT JOIN attempt a ON a.kind = 'b' AND a.owner = b.key AND a.number = b.attempt
         WHERE b.state = 'running' AND (a.number IS NULL OR a.ended_at IS NOT NULL)""",
    "I9: a live attempt of a build is the one that its build runs, or the build was dropped": """
        SELECT a.owner, a.number, b.state, b.attempt FROM attempt a LEFT JOIN build b ON b.key = a.owner
         WHERE a.kind = 'b' AND a.ended_at IS NULL
           AND (b.attempt IS NOT a.number OR b.state NOT IN ('running', 'failed'))""",
    "I1: what was accepted has its inputs, its job and its revision": """
        SELECT e.key, e.input_set, e.job, e.revision FROM execution e
          LEFT JOIN input_set i ON i.key = e.input_set LEFT JOIN job j ON j.key = e.job
          LEFT JOIN revision r ON r.job = e.job AND r.id = e.revision
         WHERE i.key IS NULL OR j.key IS NULL OR r.id IS NULL""",
    "I1: what is forgotten is not there": "SELECT f.key FROM forgotten f JOIN execution e ON e.key = f.key",
    "I1: what is left of an execution is known to be left": """
        SELECT x.execution, x.what FROM (
            SELECT execution, 'task' AS what FROM task UNION ALL SELECT execution, 'result' FROM result
             UNION ALL SELECT owner, 'attempt' FROM attempt WHERE kind = 't') x
         WHERE x.execution NOT IN (SELECT key FROM execution) AND x.execution NOT IN (SELECT key FROM forgotten)""",
    "I1: a chunk of inputs has its set": """
        SELECT input_set, first_index FROM input_chunk WHERE input_set NOT IN (SELECT key FROM input_set)""",
    "I7: a tick that fired made an execution, which its trigger started": """
        SELECT t.job, t.trigger_id, t.due_at, t.execution FROM tick t JOIN execution e ON e.key = t.execution
         WHERE e.job <> t.job OR e.trigger_id <> t.trigger_id OR (e.due_at IS NOT NULL AND e.due_at <> t.due_at)""",
    "I7: an execution that a trigger started has one tick, and no other has one": """
        SELECT e.key, e.trigger_id, COUNT(t.job) AS ticks FROM execution e LEFT JOIN tick t ON t.execution = e.key
         GROUP BY e.key, e.trigger_id HAVING COUNT(t.job) <> (e.trigger_id <> '')""",
    # one that is due later than that was made when the clock showed a later time
    "I7: nothing that a trigger started runs in the second before it is due": """
        SELECT a.owner, a.idx, a.number FROM attempt a JOIN execution e ON e.key = a.owner AND a.kind = 't'
         WHERE a.claimed_at < e.due_at AND e.due_at <= a.claimed_at + 1000000""",
    "I7: a trigger's inputs are there": """
        SELECT job, id, input_set FROM job_trigger
         WHERE input_set IS NOT NULL AND input_set NOT IN (SELECT key FROM input_set)""",
    "I7: a trigger has its job": "SELECT job, id FROM job_trigger WHERE job NOT IN (SELECT key FROM job)",
    "I10: a request's name leads to an execution of its job": """
        SELECT x.job, x.alias, x.execution FROM execution_alias x LEFT JOIN execution e ON e.key = x.execution
         WHERE e.job IS NOT x.job""",
}

AT_REST: Final[Mapping[str, str]] = {
    "I1: every execution has ended": """
        SELECT key, state FROM execution WHERE state NOT IN ('succeeded', 'failed', 'cancelled')""",
    "I1: every build has ended": "SELECT key, state FROM build WHERE ended_at IS NULL",
    "I7: every tick is settled": "SELECT job, trigger_id, due_at FROM tick WHERE outcome = 'due'",
    "I5: nothing is live at rest": "SELECT kind, owner, idx, number FROM attempt WHERE ended_at IS NULL",
}


def violations(connection: Connection, *, at_rest: bool = False) -> list[str]:
    """What breaks an invariant, one line per row, at most 20 rows of each; empty when the ledger is sound.

    ``at_rest``: nothing should be left to do, so what has not ended counts as well.
    """
    queries = {**ALWAYS, **AT_REST} if at_rest else ALWAYS
    found = []
    for rule, query in queries.items():
        rows = connection.execute(text(query), {"lost_limit": LOST_LIMIT}).fetchmany(SHOWN)
        found += [f"{rule}: {', '.join(f'{name}={value}' for name, value in row._asdict().items())}" for row in rows]
    return found
