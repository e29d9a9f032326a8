"""Whether a long run has grown, from its samples."""

from dataclasses import replace

import pytest

from tests.e2e.drills.samples import BOUNDS, LONG_S, Sample, grown, table

FLAT = Sample(
    at_s=0,
    server_mb=100,
    node_mb=50,
    server_fds=60,
    node_fds=40,
    files=500,
    database_mb=20,
    log_mb=4,
    post_ms=5,
    get_ms=4,
)


def run(seconds: float, **last: float) -> list[Sample]:
    """Forty samples, those of the last quarter with other figures."""
    samples = [replace(FLAT, at_s=seconds * number / 40) for number in range(40)]
    return [replace(each, **last) if each.at_s >= seconds * 3 / 4 else each for each in samples]


def test_a_run_that_stays_as_it_was_has_not_grown() -> None:
    assert grown(run(LONG_S), LONG_S) == []


@pytest.mark.parametrize("name", BOUNDS)
def test_each_figure_that_grows_beyond_its_bound_is_told_with_both_values(name: str) -> None:
    bound = BOUNDS[name]
    most = getattr(FLAT, name) * bound.factor + bound.slack
    assert grown(run(LONG_S, **{name: most}), LONG_S) == []
    (said,) = grown(run(LONG_S, **{name: most + 1}), LONG_S)
    assert said.startswith(
        f"{name} was {getattr(FLAT, name):.1f} in the second quarter, and {most + 1:.1f} in the last"
    )


def test_what_is_kept_for_a_while_is_not_judged_before_that_is_over() -> None:
    assert grown(run(60, files=10_000, database_mb=10_000), 60) == []


def test_a_figure_that_jumps_once_is_no_growth() -> None:
    samples = run(LONG_S)
    samples[-1] = replace(samples[-1], server_mb=10_000, post_ms=10_000)
    assert grown(samples, LONG_S) == []


def test_a_table_has_a_line_a_sample_and_a_head() -> None:
    head, *lines = table(run(LONG_S)).splitlines()
    assert head.split()[:2] == ["at_s", "server_mb"]
    assert len(lines) == 40
    assert lines[0].split()[:2] == ["0.0", "100.0"]


def test_a_run_that_has_nothing_to_compare_is_not_called_flat() -> None:
    (said,) = grown(run(LONG_S)[:10], LONG_S)
    assert said.startswith("no sample was taken")
