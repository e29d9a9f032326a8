"""The trigger clock: each due time fires once or is skipped with its reason, whatever happens to servers and clocks."""

import json
import zlib
from functools import partial
from typing import Any

import pytest
from sqlalchemy import Connection, Update, event, select

from tests.costs import cost
from tests.scheduler.triggering import Clockwork, at, cron
from tidemill.model.errors import StaleTerm
from tidemill.model.states import ExecutionState
from tidemill.scheduler.fire import LOOK_EVERY_S, pause_s
from tidemill.store import schema, ticks
from tidemill.testing.sim import Sim


def at_noon(sim: Sim) -> Clockwork:
    """It is 2026-06-01, half a minute past noon."""
    sim.clock.now = at("2026-06-01T12:00:30")
    return Clockwork(sim)


@pytest.fixture
def work(sim: Sim) -> Clockwork:
    return at_noon(sim)


def execute(connection: Connection, change: Update) -> None:
    connection.execute(change)


def chunks_of(sim: Sim, key: int) -> list[Any]:
    chunk = schema.input_chunk.c
    query = select(chunk.data).where(chunk.input_set == key)
    return [json.loads(zlib.decompress(data)) for data in sim.database.read(lambda one: one.scalars(query).all())]


def test_it_fires_when_it_is_due_once_and_with_its_arguments(work: Clockwork) -> None:
    work.deploy(cron("*/5 12 * * *", tasks=[{"a": 1}, {"b": "é"}]))
    assert work.look("2026-06-01T12:04:59.9") == at("2026-06-01T12:05")
    assert work.executions() == []
    for _ in range(3):
        assert work.look("2026-06-01T12:05") == at("2026-06-01T12:10")
    (made,) = work.executions()
    assert (made.trigger_id, made.due_at, made.total, made.state) == ("t1", at("2026-06-01T12:05"), 2, "pending")
    assert chunks_of(work.sim, made.input_set) == [[{"a": 1}, {"b": "é"}]]
    assert work.ticks() == [("01 12:05", "fired")]
    assert work.sim.violations() == []


def test_all_executions_of_one_configuration_share_one_input_set(work: Clockwork) -> None:
    work.deploy(cron(tasks=[{"a": 1}]))
    work.look("2026-06-01T12:01")
    work.put(extra={"triggers": [cron("*/2 * * * *", tasks=[{"a": 1}], overlap="skip")]})
    work.sim.run()
    work.look("2026-06-01T12:02")
    first, second = work.executions()
    assert first.input_set == second.input_set
    work.put(extra={"triggers": [cron(tasks=[{"a": 2}])]})
    work.look("2026-06-01T12:03")
    third = work.executions()[-1]
    assert third.input_set != first.input_set
    assert chunks_of(work.sim, third.input_set) == [[{"a": 2}]]
    work.deploy(cron(), job="bare")
    work.look("2026-06-01T12:04")
    assert chunks_of(work.sim, work.executions()[-1].input_set) == [[{}]]


def test_the_executions_run_to_their_end(work: Clockwork) -> None:
    work.deploy(cron())
    work.look("2026-06-01T12:01")
    (made,) = work.executions()
    work.sim.run()
    assert work.sim.state(made.key) is ExecutionState.SUCCEEDED


@pytest.mark.parametrize("point", ["before", "after"])
def test_a_server_that_dies_around_the_tick_loses_none_and_makes_no_two(
    work: Clockwork, monkeypatch: pytest.MonkeyPatch, point: str
) -> None:
    work.deploy(cron())
    work.look()

    class Died(Exception): ...

    def write(unit: Any, **named: Any) -> Any:
        if unit.func is not ticks.fire:
            return right_write(unit, **named)
        if point == "after":
            right_write(unit, **named)
        raise Died

    right_write = work.sim.database.write
    monkeypatch.setattr(work.sim.database, "write", write)
    with pytest.raises(Died):
        work.look("2026-06-01T12:01")
    monkeypatch.setattr(work.sim.database, "write", right_write)
    work.restart()
    work.look("2026-06-01T12:01:10")
    assert work.ticks() == [("01 12:01", "fired")]
    assert len(work.executions()) == 1


def test_two_servers_fire_once_and_the_one_without_the_term_nothing(work: Clockwork) -> None:
    work.deploy(cron())
    work.look()
    other, old = work.another(), work.sim.ticker.term
    other.tick(old, work.sim.clock.now)
    work.sim.restart()
    work.look("2026-06-01T12:01")
    other.tick(work.sim.ticker.term, work.sim.clock.now)
    assert work.ticks() == [("01 12:01", "fired")]
    work.sim.clock.now = at("2026-06-01T12:02")
    with pytest.raises(StaleTerm):
        other.tick(old, work.sim.clock.now)
    assert work.ticks() == [("01 12:01", "fired")]
    work.look()
    assert work.ticks() == [("01 12:01", "fired"), ("01 12:02", "fired")]


@pytest.mark.parametrize(
    ("catch_up", "right"),
    [
        ("none", [("01 12:01..01 14:59", "Missed"), ("01 15:00", "fired")]),
        ("last", [("01 12:01..01 14:59", "Missed"), ("01 15:00", "fired")]),
        (
            "all",
            [("01 12:01..01 13:20", "Missed"), *((f"01 {13 + n // 60}:{n % 60:02}", "fired") for n in range(21, 121))],
        ),
    ],
)
def test_what_was_missed_is_caught_up_as_its_policy_says(
    work: Clockwork, catch_up: str, right: list[tuple[str, str]]
) -> None:
    work.deploy(cron(catchUp=catch_up))
    work.look()
    work.restart()
    work.look("2026-06-01T15:00:20")
    assert work.ticks() == right
    work.look("2026-06-01T15:01")
    assert work.ticks() == [*right, ("01 15:01", "fired")]
    assert work.sim.violations() == []


@pytest.mark.parametrize(("catch_up", "right"), [("none", "Missed"), ("last", "fired"), ("all", "fired")])
def test_one_that_was_missed_by_more_than_a_minute(work: Clockwork, catch_up: str, right: str) -> None:
    work.deploy(cron("0 13 * * *", catchUp=catch_up))
    work.look()
    work.look("2026-06-01T13:01:00.1")
    assert work.ticks() == [("01 13:00", right)]


def test_one_that_is_late_by_less_fires_whatever_the_policy(work: Clockwork) -> None:
    work.deploy(cron("0 13 * * *", catchUp="none"))
    work.look()
    work.look("2026-06-01T13:01")
    assert work.ticks() == [("01 13:00", "fired")]


def test_a_clock_that_is_set_back_fires_nothing_twice_and_loses_nothing(work: Clockwork) -> None:
    work.deploy(cron())
    work.look("2026-06-01T12:02")
    work.sim.clock.set_back(90)
    work.look()
    for _ in range(24):
        work.sim.clock.move(10)
        work.look()
    assert work.ticks() == [(f"01 12:0{minute}", "fired") for minute in range(1, 5)]
    assert len(work.executions()) == 4


def test_a_clock_that_ran_ahead_and_is_put_right_goes_on_at_the_right_times(work: Clockwork) -> None:
    work.deploy(cron())
    work.look("2026-06-01T12:01")
    work.look("2027-06-01T12:00")
    assert work.trigger().next_due_at == at("2027-06-01T12:01")
    work.sim.clock.set_back(365 * 86_400)
    work.look("2026-06-01T12:01:30")
    assert work.trigger().next_due_at == at("2026-06-01T12:02")
    work.look("2026-06-01T12:02")
    assert ("01 12:02", "fired") in work.ticks()


def test_a_gap_and_a_repeated_hour_fire_as_the_rule_says(work: Clockwork) -> None:
    work.deploy(cron("30 2 * * *", timezone="Europe/Paris"))
    for start, right in (("2026-03-28T23:00", "29 01:00"), ("2026-10-24T23:00", "25 00:30")):
        work.sim.clock.now = at(start)
        work.restart()
        work.look()
        for _ in range(6 * 60):
            work.sim.clock.move(60)
            work.look()
        assert [one for one in work.ticks() if one[0] == right] == [(right, "fired")]
        assert len([one for one in work.ticks() if one[0].startswith(right[:2])]) == 1


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"enabled": False}, "JobDisabled"),
        ({"extra": {"triggers": [cron(enabled=False)]}}, "TriggerDisabled"),
    ],
)
def test_a_tick_that_may_not_fire_is_recorded_with_the_reason_and_never_caught_up(
    work: Clockwork, change: dict[str, Any], reason: str
) -> None:
    work.deploy(cron(catchUp="all"))
    work.look()
    work.put(**change)
    work.look("2026-06-01T12:01")
    assert work.ticks() == [("01 12:01", reason)]
    # nobody looks while these are due; then all is enabled again, before anybody does
    work.sim.clock.now = at("2026-06-01T12:03:30")
    work.put(enabled=True, extra={"triggers": [cron(catchUp="all")]})
    work.look()
    work.look("2026-06-01T12:04")
    assert work.ticks() == [("01 12:01", reason), ("01 12:02..01 12:03", reason), ("01 12:04", "fired")]
    assert len(work.executions()) == 1


def test_a_paused_job_and_one_that_has_nothing_to_run(work: Clockwork) -> None:
    work.deploy(cron())
    work.look()
    for values, reason in (({"traffic": 0}, "JobPaused"), ({"traffic": 100, "active_revision": ""}, "NotDeployed")):
        change = schema.job.update().values(values)
        work.sim.database.write(partial(execute, change=change))
        work.sim.clock.move(60)
        work.look()
        assert work.ticks()[-1][1] == reason
    assert work.executions() == []


def test_what_is_due_when_its_rule_changes_or_its_job_is_disabled_is_not_lost(work: Clockwork) -> None:
    work.deploy(cron("1 12 * * *"))
    work.look()
    work.sim.clock.now = at("2026-06-01T12:01:00.01")
    work.put(extra={"triggers": [cron("5 12 * * *")]})
    assert work.ticks() == [("01 12:01", "due")]
    work.look()
    work.look("2026-06-01T12:05")
    assert work.ticks() == [("01 12:01", "fired"), ("01 12:05", "fired")]
    work.put(extra={"triggers": [cron("6 12 * * *")]})
    work.look()
    work.sim.clock.now = at("2026-06-01T12:06:00.01")
    work.put(extra={"triggers": []})
    work.look()
    assert work.ticks()[-1] == ("01 12:06", "TriggerRemoved")


def test_an_unchanged_trigger_is_left_alone_by_other_changes(work: Clockwork) -> None:
    work.deploy(cron("0 3 * * *"))
    work.look()
    before = work.trigger()
    work.sim.clock.move(3_600)
    work.put(extra={"triggers": [cron("0 3 * * *")], "mood": "calm"})
    assert work.trigger() == before
    assert before.input_set is not None


def test_overlap_skip_waits_for_no_one_and_allow_for_nothing(work: Clockwork) -> None:
    work.deploy(cron(overlap="skip", catchUp="all"), cron(name="t2"))
    work.look("2026-06-01T12:01")
    work.look("2026-06-01T12:02")
    assert work.ticks() == [("01 12:01", "fired"), ("01 12:02", "Overlap")]
    assert work.ticks("t2") == [("01 12:01", "fired"), ("01 12:02", "fired")]
    work.sim.run()
    # of what is caught up only the first runs: the next would run beside it
    work.look("2026-06-01T12:05:30")
    assert work.ticks()[2:] == [("01 12:03", "fired"), ("01 12:04", "Overlap"), ("01 12:05", "Overlap")]


def test_over_the_workspaces_quota_executions_are_queued_and_run_in_the_end(work: Clockwork) -> None:
    work.sim.workspace(executions_at_once=2)
    work.deploy(*(cron(name=f"t{number}") for number in range(5)))
    work.look("2026-06-01T12:01")
    assert sorted(one.state for one in work.executions()) == ["pending"] * 2 + ["queued"] * 3
    work.sim.run()
    assert {one.state for one in work.executions()} == {"succeeded"}


def test_a_deleted_job_fires_nothing_more(work: Clockwork) -> None:
    work.deploy(cron())
    work.look()
    work.delete()
    assert work.look("2026-06-01T12:01") is None
    assert work.executions() == []
    assert work.trigger() is None


def test_inputs_are_kept_while_a_trigger_uses_them_and_go_with_it(work: Clockwork) -> None:
    work.deploy(cron("0 0 1 1 *", tasks=[{"a": 1}]))
    work.look()
    key = work.trigger().input_set
    work.sim.clock.move(40 * 86_400)
    work.sim.sweep()
    assert chunks_of(work.sim, key) == [[{"a": 1}]]
    work.put(extra={"triggers": []})
    work.sim.sweep()
    assert chunks_of(work.sim, key) == []
    assert work.sim.violations() == []


def test_old_ticks_are_swept_but_for_the_last_and_those_of_kept_executions(work: Clockwork) -> None:
    work.deploy(cron("* * 1 6 *"), cron("* * 1 6 *", "t2", enabled=False))
    for minute in range(1, 4):
        work.look(f"2026-06-01T12:0{minute}")
    work.sim.clock.move(40 * 86_400)
    work.sim.sweep()
    # what started has not ended: it is kept, and so are its ticks
    assert len(work.ticks()) == 3
    assert work.ticks("t2") == [("01 12:03", "TriggerDisabled")]
    work.sim.run()
    work.sim.clock.move(40 * 86_400)
    work.sim.sweep()
    assert work.ticks() == [("01 12:03", "fired")]
    assert work.executions() == []
    assert work.sim.violations() == []


def test_firing_costs_the_same_statements_for_one_and_for_many(work: Clockwork) -> None:
    found = []
    for minute, number in ((30, 1), (31, 40)):
        name = f"at{minute}-"
        work.deploy(
            *(cron(f"{minute} 12 * * *", f"{name}{n}", overlap="skip") for n in range(number)), job=f"j{minute}"
        )
    work.look()
    for minute in (30, 31):
        work.sim.clock.now = at(f"2026-06-01T12:{minute}")
        found.append(cost(work.look).statements)
    assert len(work.executions()) == 41
    assert found[0] == found[1] <= 16


def test_a_look_with_nothing_due_is_one_read_however_many_triggers_there_are(work: Clockwork) -> None:
    work.deploy(*(cron("0 3 * * *", f"t{number}") for number in range(3)))
    work.look()
    few = cost(work.look)
    work.deploy(*(cron("0 3 * * *", f"many{number}") for number in range(90)), job="many")
    work.look()
    many = cost(work.look)
    assert (few.statements, many.statements) == (1, 1)
    assert many.steps <= few.steps + 20


def test_reads_of_the_clock_go_by_their_indices(work: Clockwork) -> None:
    seen = list[str]()
    work.deploy(cron(), cron(name="t2", overlap="skip"))

    def note(_: Any, __: Any, statement: str, parameters: Any, *___: Any) -> None:
        if statement.startswith("SELECT") and isinstance(parameters, tuple):
            seen.append(statement)

    def plans(connection: Any) -> list[str]:
        return [
            str(row[3])
            for one in set(seen)
            for row in connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {one}", tuple([0] * one.count("?")))
        ]

    work.look()
    event.listen(work.sim.database._writer_engine, "before_cursor_execute", note)
    work.look("2026-06-01T12:01")
    event.remove(work.sim.database._writer_engine, "before_cursor_execute", note)
    steps = work.sim.database.read(plans)
    mine = {"tick", "job_trigger", "job", "execution"}
    scans = [step for step in steps if step.startswith("SCAN") and step.split()[1] in mine]
    # of what is open, all is wanted
    assert [step for step in scans if "tick_open" not in step] == []
    assert any("tick_open" in step for step in steps)
    assert any("job_trigger_due" in step for step in steps)
    assert any("execution_of_trigger" in step for step in steps)


def test_it_sleeps_to_the_next_minute_or_due_time_and_never_long() -> None:
    now = at("2026-06-01T12:00:10")
    assert pause_s(now, None) == LOOK_EVERY_S
    assert pause_s(at("2026-06-01T12:00:59.75"), at("2026-06-01T18:00")) == 0.25
    assert pause_s(now, at("2026-06-01T12:00:10.5")) == 0.5
    assert pause_s(now, at("2026-06-01T12:00")) == 0.0


def test_what_triggers_lack_after_an_upgrade_is_planned_at_the_start(work: Clockwork) -> None:
    work.deploy(cron("0 13 * * *"), cron("not five", "odd"))
    change = schema.job_trigger.update().values(next_due_at=None, planned_at=None)
    work.sim.database.write(partial(execute, change=change))
    work.restart()
    assert work.look() == at("2026-06-01T13:00")
    assert work.trigger("odd").next_due_at is None
    work.look("2026-06-01T13:00")
    assert work.ticks() == [("01 13:00", "fired")]
