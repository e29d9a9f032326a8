"""What a node is given to run."""

import base64
import json
from dataclasses import replace

from sqlalchemy import update

from tests.costs import cost
from tidemill.model.ids import AttemptId, ExecutionKey, OwnerKind
from tidemill.model.job import Env, JobSpec, Runtime
from tidemill.model.lease import TaskLease
from tidemill.scheduler.leases import LeaseMaker, Made
from tidemill.store import schema, specs
from tidemill.testing.sim import DIGEST, REVISION, Given, Sim


def make(sim: Sim, *attempts: AttemptId, maker: LeaseMaker | None = None) -> Made:
    maker = maker or LeaseMaker(database=sim.database, keyring=sim.keyring, policy=sim.policy)
    return maker.make(attempts)


def task_lease(sim: Sim, attempt: AttemptId) -> TaskLease:
    (lease,) = make(sim, attempt).leases
    assert isinstance(lease, TaskLease)
    return lease


def an_attempt(key: ExecutionKey, index: int = 0, number: int = 1) -> AttemptId:
    return AttemptId(OwnerKind.TASK, key, index, number)


def set_envs(sim: Sim, *envs: Env) -> None:
    spec = specs.encode(JobSpec(runtime=Runtime(envs=envs)))
    sim.database.write(lambda connection: connection.execute(update(schema.revision).values(spec=spec)))


def set_execution_env(sim: Sim, key: ExecutionKey, sealed: str) -> None:
    execution = schema.execution
    statement = update(execution).where(execution.c.key == key).values(env_sealed=sealed)
    sim.database.write(lambda connection: connection.execute(statement))


def test_a_lease_holds_all_that_a_task_is(sim: Sim) -> None:
    key = sim.submit(Given(tasks=3, memory_mb=256, timeout_s=77))
    lease = task_lease(sim, an_attempt(key, 2, 4))
    assert json.loads(lease.arguments) == {"index": 2}
    assert (lease.memory_mb, lease.timeout_s, lease.grace_s) == (256, 77, 10.0)
    assert (lease.image.name, lease.image.digest) == (f"images/{DIGEST}.tar.gz", DIGEST)
    assert lease.ttl_s is None
    environment = dict(lease.environment)
    assert sim.keyring.attempt_of(environment.pop("BL_API_KEY")) == an_attempt(key, 2, 4)
    del environment["BL_CLIENT_CREDENTIALS"]
    assert environment == {
        "BL_EXECUTION_KEY": "BL_EXECUTION_ID",
        "BL_EXECUTION_ID": f"execution-{key}",
        "BL_WORKSPACE": "main",
        "BL_NAME": "etl",
        "BL_TYPE": "job",
        "BL_API_URL": "http://sim/v0",
        "BL_RUN_URL": "http://sim",
        "BL_REGION": "local",
        "BL_GENERATION": "mk3",
        "BL_CLOUD": "true",
        "BL_ENV": "prod",
        "DO_NOT_TRACK": "1",
        "TIDEMILL_ATTEMPT_ID": f"execution-{key}/2/4",
        "TIDEMILL_ATTEMPT": "4",
    }


def test_later_wins_in_an_environment_and_the_platform_has_the_last_word(sim: Sim) -> None:
    key = sim.submit(Given())
    job = sim.job_of(key)
    secret = sim.keyring.seal("s3cret", f"revision/{job}/{REVISION}/SECRET")
    set_envs(
        sim,
        Env(name="A", value="job"),
        Env(name="B", value="job"),
        Env(name="SECRET", value=secret, secret=True),
        Env(name="BL_API_KEY", value="the user's own"),
        Env(name="BL_TYPE", value="job's"),
    )
    own = {"B": "execution", "BL_WORKSPACE": "execution's"}
    set_execution_env(sim, key, sim.keyring.seal(json.dumps(own), f"execution/{key}"))
    environment = task_lease(sim, an_attempt(key)).environment
    assert (environment["A"], environment["B"], environment["SECRET"]) == ("job", "execution", "s3cret")
    assert (environment["BL_TYPE"], environment["BL_WORKSPACE"]) == ("job", "main")
    assert environment["BL_API_KEY"] == "the user's own"
    assert "BL_CLIENT_CREDENTIALS" not in environment
    assert "s3cret" not in repr(task_lease(sim, an_attempt(key)))


def test_the_platform_gives_a_credential_of_the_attempt_where_the_user_gives_none(sim: Sim) -> None:
    attempt = an_attempt(sim.submit(Given()))
    environment = task_lease(sim, attempt).environment
    assert sim.keyring.attempt_of(environment["BL_API_KEY"]) == attempt
    pair = base64.b64decode(environment["BL_CLIENT_CREDENTIALS"]).decode()
    assert pair == f"task:{environment['BL_API_KEY']}"


def test_an_environment_that_cannot_be_opened_is_no_lease_and_no_charge(sim: Sim) -> None:
    key = sim.submit(Given())
    set_execution_env(sim, key, sim.keyring.seal("{}", "execution/somebody else's"))
    assert make(sim, an_attempt(key)).leases == []
    sim.tick()
    row = sim.task(key)
    assert row is not None
    assert (row.charged, row.lost_in_row, row.reason) == (0, 1, "NodeLost")
    sim.run()
    row = sim.task(key)
    assert row is not None
    assert (row.state, row.lost_in_row) == ("failed", 5)
    assert sim.engine.starts() == {}


def test_many_leases_read_each_chunk_once_and_keep_their_order(sim: Sim) -> None:
    key = sim.submit(Given(tasks=2_500))
    maker = LeaseMaker(database=sim.database, keyring=sim.keyring, policy=sim.policy)
    indices = [5, 2_400, 0, 1_000, 999]
    made = make(sim, *(an_attempt(key, index) for index in indices), maker=maker)
    assert [lease.attempt.index for lease in made.leases] == indices
    assert [json.loads(lease.arguments)["index"] for lease in made.leases if isinstance(lease, TaskLease)] == indices
    sim.database.write(lambda connection: connection.execute(schema.input_chunk.delete()))
    again = make(sim, *(an_attempt(key, index) for index in range(0, 2_500, 100)), maker=maker)
    assert len(again.leases) == 25
    assert again.failed == {}


def test_arguments_that_are_gone_are_no_lease(sim: Sim) -> None:
    key = sim.submit(Given())
    sim.database.write(lambda connection: connection.execute(schema.input_chunk.delete()))
    assert list(make(sim, an_attempt(key)).failed) == [an_attempt(key)]


def test_what_is_kept_in_memory_is_bounded_and_read_again(sim: Sim) -> None:
    policy = replace(sim.policy, kept_executions=2, kept_arguments_bytes=100)
    maker = LeaseMaker(database=sim.database, keyring=sim.keyring, policy=policy)
    keys = [sim.submit(Given(tasks=20)) for _ in range(4)]
    for key in (*keys, *keys):
        made = make(sim, an_attempt(key), an_attempt(key, 19), maker=maker)
        assert [lease.attempt.index for lease in made.leases] == [0, 19]


def test_leases_of_many_new_executions_cost_as_many_statements_as_of_one(sim: Sim) -> None:
    attempts = [an_attempt(sim.submit(Given(job=job)), 0) for job in ("etl", "etl", "sweep", "other")]
    made: list[Made] = []

    def statements(*some: AttemptId) -> int:
        return cost(lambda: made.append(make(sim, *some))).statements

    assert statements(*attempts) == statements(attempts[0])
    assert [lease.attempt for lease in made[0].leases] == attempts
