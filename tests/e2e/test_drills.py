"""The drills of `make drills` in short: a server and its node under what machines do to them."""

import random
import re
from pathlib import Path

import pytest

from tests.e2e.drills import freeze, full, kills, power
from tests.e2e.drills.ground import ground
from tests.e2e.drills.samples import take
from tests.e2e.drills.soak import SETTINGS, Churn

# a drill's choices can be repeated; another seed each day finds more, and that is what `make drills` is for
SEED = 20261127


def test_kills_of_server_and_node_lose_nothing_and_double_nothing(tmp_path: Path) -> None:
    said = kills.drill(tmp_path, kills=4, tasks=80, chance=random.Random(SEED))
    server, node = (int(found) for found in re.findall(r"(\d+) (?:kills )?of the", said))
    assert server + node == 4


def test_a_node_that_stood_still_for_a_while_goes_on_where_it_was(tmp_path: Path) -> None:
    assert "in their first attempt" in freeze.drill(tmp_path, seconds=2, tasks=60)


def test_a_power_cut_takes_nothing_that_was_acknowledged(tmp_path: Path) -> None:
    said = power.drill(tmp_path, freezes=1, cuts=12, acknowledged=15, chance=random.Random(SEED))
    assert said.startswith("12 cuts")


def test_a_disk_that_is_full_for_a_while_loses_nothing(tmp_path: Path) -> None:
    if why := full.why_not():
        pytest.skip(why)
    said = full.drill(tmp_path, rounds=2, tasks=40, seconds=1, chance=random.Random(SEED))
    assert "40 tasks succeeded" in said


def test_every_wish_of_the_soak_is_granted_sampled_and_ends(tmp_path: Path) -> None:
    with ground(tmp_path, settings=SETTINGS) as on:
        churn = Churn(on, tmp_path / "churn", random.Random(SEED))
        churn.deploy()
        first = churn.post(120)
        churn.submit()
        churn.fire()
        churn.finish()
        assert len(churn.ended) == 3
        # two of its 120 tasks have failed
        churn.ended = [first]
        churn.rerun()
        assert len(churn.running) == 1
        churn.post(40)
        churn.cancel()
        sample = take(on.server, 0, lambda: churn.post(1), churn.get)
        churn.finish()
    assert min(sample.server_mb, sample.node_mb, sample.server_fds, sample.node_fds, sample.database_mb) > 0
    assert sample.files > 10
