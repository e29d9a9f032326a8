"""From what a user gives to the body of a request."""

import json
import re
from pathlib import Path

import pytest

from tidemill.cli.exits import USAGE, CommandError
from tidemill.cli.inputs import Inputs, Overrides, body, parse_env, read_file, read_text


def sent(inputs: Inputs | None, overrides: Overrides | None = None) -> object:
    return json.loads(body(inputs, overrides or Overrides()))


def written(folder: Path, name: str, text: str) -> Path:
    file = folder / name
    file.write_text(text)
    return file


def test_an_array_is_the_tasks() -> None:
    assert sent(read_text('[{"n":1},{"n":2}]', "--data")) == {"tasks": [{"n": 1}, {"n": 2}]}


def test_an_object_with_tasks_is_a_request() -> None:
    request = {"tasks": [{"n": 1}], "env": {"A": "1"}, "allowQueue": False}
    assert sent(read_text(json.dumps(request), "--data")) == request


def test_an_object_without_tasks_is_one_task() -> None:
    assert sent(read_text('{"n":1}', "--data")) == {"tasks": [{"n": 1}]}


def test_nothing_is_an_empty_body() -> None:
    assert body(None, Overrides()) == b""


def test_flags_without_inputs_still_mean_one_task_without_arguments() -> None:
    assert sent(None, Overrides(memory_mb=64)) == {"memory": 64}


def test_flags_win_over_members_of_the_request() -> None:
    inputs = read_text('{"tasks":[{}],"env":{"A":"1","B":"2"},"memory":1,"executionId":"old"}', "--data")
    overrides = Overrides(env={"B": "3"}, memory_mb=512, execution_id="mine-0001")
    assert sent(inputs, overrides) == {
        "tasks": [{}],
        "env": {"A": "1", "B": "3"},
        "memory": 512,
        "executionId": "mine-0001",
    }


def test_a_line_of_jsonl_is_one_task_and_is_sent_as_it_was_written(tmp_path: Path) -> None:
    file = written(tmp_path, "a.jsonl", '{"n": 1.10}\n\n  {"tasks": [1]}\r\n{"n":3}')
    assert body(read_file(file, b""), Overrides()) == b'{"tasks":[{"n": 1.10},{"tasks": [1]},{"n":3}]}'


def test_an_empty_jsonl_is_no_tasks_and_not_one_without_arguments(tmp_path: Path) -> None:
    assert sent(read_file(written(tmp_path, "a.jsonl", "\n"), b"")) == {"tasks": []}


def test_yaml_is_known_by_its_suffix_and_a_date_stays_what_was_written(tmp_path: Path) -> None:
    file = written(tmp_path, "a.yaml", "- day: 2026-01-31\n  n: 1\n")
    assert sent(read_file(file, b"")) == {"tasks": [{"day": "2026-01-31", "n": 1}]}


def test_stdin_may_be_json_or_jsonl() -> None:
    assert sent(read_file(Path("-"), b'[{"n":1}]')) == {"tasks": [{"n": 1}]}
    assert sent(read_file(Path("-"), b'{"n":1}\n{"n":2}\n')) == {"tasks": [{"n": 1}, {"n": 2}]}
    assert sent(read_file(Path("-"), b'{\n"tasks": [{"n":1}]\n}\n')) == {"tasks": [{"n": 1}]}


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("a.json", "{", "not JSON"),
        ("a.json", "3", "expected a JSON object or array, found a number"),
        ("a.json", "[1]", "task 0 must be an object"),
        ("a.json", '{"tasks": {}}', "`tasks` must be an array"),
        ("a.json", '[{"n": NaN}]', "NaN is not a JSON number"),
        ("a.jsonl", '{"n":1}\n{"n":\n', "a.jsonl, line 2"),
        ("a.jsonl", '{"n":1}\n[2]\n', "a.jsonl, line 2: expected an object"),
        ("a.yaml", "a: [", "not YAML"),
    ],
)
def test_what_makes_no_sense_is_a_usage_error_that_says_where(tmp_path: Path, name: str, text: str, said: str) -> None:
    with pytest.raises(CommandError, match=re.escape(said)) as caught:
        read_file(written(tmp_path, name, text), b"")
    assert caught.value.code == USAGE


def test_a_file_that_is_not_there_or_not_text_is_a_usage_error(tmp_path: Path) -> None:
    with pytest.raises(CommandError, match="No such file"):
        read_file(tmp_path / "none.json", b"")
    (tmp_path / "b.json").write_bytes(b"[\xff]")
    with pytest.raises(CommandError, match="not UTF-8"):
        read_file(tmp_path / "b.json", b"")


def test_environment_pairs_keep_everything_behind_the_first_equals_sign() -> None:
    assert parse_env(["A=1=2", "B="]) == {"A": "1=2", "B": ""}
    with pytest.raises(CommandError, match="NAME=VALUE"):
        parse_env(["A"])
