"""Programs that the bench compares with: each has a file, and one that is missing or fails says why."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from bench import peering
from bench.ground import BenchError
from bench.peering import PEERS, Peer

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


class Stopwatch:
    """A server of ours that needs a second for whatever it is given."""

    def run(self, tasks: int) -> float:
        assert tasks == 5
        return 1.0


def test_a_peer_that_fails_in_one_round_is_left_out_of_all_and_the_others_are_not(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    peers: Sequence[Peer] = (XARGS, replace(XARGS, name="broken", module="with_nothing"))
    monkeypatch.setattr(peering, "PEERS", peers)
    rounds, words = peering.rounds(Stopwatch(), tasks=5, count=2)
    assert [sorted(one) for one in rounds] == [["Tidemill", "xargs"]] * 2
    assert words["broken"].startswith("not measured: it failed in round 1 of 2; xargs ")
    assert words["xargs"].startswith("xargs ")
    assert "No module named 'with_nothing'" in capfd.readouterr().err
