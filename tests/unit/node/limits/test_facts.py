"""Facts of limits, as a node leaves them for whoever asks."""

from pathlib import Path

import pytest

from tidemill.node.limits.facts import LimitFacts, Missing
from tidemill.node.limits.groups import Control, Kill
from tidemill.node.limits.look import FACTS_FILE, of_node


@pytest.mark.parametrize("kill", [None, *Kill])
def test_facts_are_read_as_they_were_written(tmp_path: Path, kill: Kill | None) -> None:
    facts = LimitFacts(
        active={Control.MEMORY: "cgroup v2, /a"}, missing={Control.CPU: Missing("because", "do this")}, kill=kill
    )
    (tmp_path / FACTS_FILE).write_text(facts.to_json())
    assert of_node(tmp_path) == facts


@pytest.mark.parametrize("text", ["", "{", "{}", "[]", '{"active": {"disk": ""}, "missing": {}, "kill": null}'])
def test_what_no_node_has_written_says_nothing(tmp_path: Path, text: str) -> None:
    (tmp_path / FACTS_FILE).write_text(text)
    assert of_node(tmp_path) is None


def test_a_node_that_never_ran_says_nothing(tmp_path: Path) -> None:
    assert of_node(tmp_path) is None


@pytest.mark.parametrize(
    ("facts", "words"),
    [
        (LimitFacts(), set()),
        (LimitFacts(active={Control.MEMORY: ""}, kill=Kill.LISTED), {"memory-limit"}),
        (
            LimitFacts(active=dict.fromkeys(Control, ""), kill=Kill.FORKLESS),
            {"memory-limit", "pids-limit", "cpu-share", "group-kill"},
        ),
    ],
)
def test_capabilities_are_what_works(facts: LimitFacts, words: set[str]) -> None:
    assert facts.capabilities == words
