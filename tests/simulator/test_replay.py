from tidemill.testing.simulator.run import Simulator


def test_a_seed_goes_the_same_way_every_time(simulator: Simulator) -> None:
    first = simulator.run(3)
    simulator.run(4)
    again = simulator.run(3)
    assert again.history == first.history
    assert (again.passed, again.deaths, again.faults) == (first.passed, first.deaths, first.faults)


def test_another_seed_goes_another_way(simulator: Simulator) -> None:
    assert simulator.run(3).history != simulator.run(4).history
