"""Programs that the bench compares with: each has a file, and one that is missing or fails says why."""

from dataclasses import replace
from pathlib import Path

import pytest

from bench import peering
from bench.ground import BenchError
from bench.peering import PEERS

XARGS = next(peer for peer in PEERS if peer.program == "xargs")


def test_every_peer_has_a_file_and_every_file_a_peer() -> None:
    files = {path.stem for path in Path(peering.__file__).with_name("peers").glob("with_*.py")}
    assert files == {peer.module for peer in PEERS}


def test_a_peer_runs_its_tasks_and_its_version_is_told() -> None:
    assert peering.missing(XARGS) == ""
    assert peering.seconds(XARGS, 5) > 0
    assert peering.version(XARGS).startswith("xargs ")


def test_a_peer_whose_program_is_missing_says_so() -> None:
    assert peering.missing(replace(XARGS, program="no-such-program")).startswith("there is no no-such-program")


def test_a_peer_that_fails_is_an_error_with_what_it_said() -> None:
    with pytest.raises(BenchError, match="No module named 'with_nothing'"):
        peering.seconds(replace(XARGS, module="with_nothing"), 5)
