"""What the bench settles without running it is in the ledger as if it had run."""

from pathlib import Path

from bench.settled import settle_in
from tidemill.testing.sim import NODE, Given, Sim


def test_so_many_tasks_succeed_and_the_rest_still_waits(tmp_path: Path) -> None:
    sim = Sim(tmp_path)
    execution = sim.submit(Given(tasks=60, parallelism=4))
    settled = settle_in(sim.database, sim.keyring, NODE.id, 50)
    stats = sim.stats(execution)
    assert 50 <= settled == stats.succeeded < 60
    assert stats.total == 60
    assert not sim.violations()
    sim.close()
