"""What the words behind `get` mean."""

import pytest

from tidemill.cli.exits import USAGE, CommandError
from tidemill.cli.get import Target, parse_target


@pytest.mark.parametrize(
    ("words", "target"),
    [
        ("jobs", Target(kind="jobs")),
        ("job etl", Target(kind="job", job="etl")),
        ("executions etl", Target(kind="executions", job="etl")),
        ("job etl executions", Target(kind="executions", job="etl")),
        ("job etl execution", Target(kind="executions", job="etl")),
        ("execution etl 7f3c2a9e", Target(kind="execution", job="etl", name="7f3c2a9e")),
        ("job etl execution 7f3c2a9e", Target(kind="execution", job="etl", name="7f3c2a9e")),
        ("execution 7f3c2a9e", Target(kind="execution", name="7f3c2a9e")),
        ("tasks etl 7f3c2a9e", Target(kind="tasks", job="etl", name="7f3c2a9e")),
        ("job etl execution 7f3c2a9e tasks", Target(kind="tasks", job="etl", name="7f3c2a9e")),
        ("tasks 7f3c2a9e", Target(kind="tasks", name="7f3c2a9e")),
        ("task 7f3c2a9e/12", Target(kind="task", name="7f3c2a9e", task="12")),
        ("task etl 7f3c2a9e/task-12", Target(kind="task", job="etl", name="7f3c2a9e", task="task-12")),
        ("job etl execution 7f3c2a9e task 12", Target(kind="task", job="etl", name="7f3c2a9e", task="12")),
        ("workspaces", Target(kind="workspaces")),
        ("workspace main", Target(kind="workspace", name="main")),
    ],
)
def test_every_form_is_understood(words: str, target: Target) -> None:
    assert parse_target(words.split()) == target


@pytest.mark.parametrize(
    "words",
    [
        "job",
        "executions",
        "execution",
        "tasks",
        "frogs",
        "job etl frogs",
        "task",
        "task 7f3c2a9e",
        "task 7f3c2a9e/",
        "task /3",
        "jobs a b c d e",
    ],
)
def test_anything_else_is_a_usage_error_that_lists_the_forms(words: str) -> None:
    with pytest.raises(CommandError) as caught:
        parse_target(words.split())
    assert caught.value.code == USAGE
    assert any("executions JOB" in line for line in caught.value.advice)
