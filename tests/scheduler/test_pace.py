"""News gather while there is some all the time, and nobody runs out of work or waits for long meanwhile."""

import pytest

from tidemill.scheduler.pace import gather_s, rest_s


def test_a_pass_rests_as_long_as_it_took_and_never_for_long() -> None:
    assert [rest_s(took_s) for took_s in (0.0, 0.003, 0.5)] == [0.0, 0.003, 0.02]


@pytest.mark.parametrize(
    ("heard", "since_s", "live", "expected"),
    [
        (10, 0.05, 64, 0.05),  # 200 a second: a quarter of 64 takes 80 ms
        (10, 0.01, 64, 0.016),  # 1,000 a second: a quarter of 64 takes 16 ms
        (1, 0.01, 15, 0.0),  # few run
        (1, 1.0, 64, 0.0),  # after a quiet time
        (0, 0.01, 64, 0.0),
    ],
)
def test_a_node_is_let_be_while_a_quarter_of_its_work_ends(
    heard: int, since_s: float, live: int, expected: float
) -> None:
    assert gather_s(heard, since_s, live) == pytest.approx(expected)
