"""The page of benchmarks is what its numbers say."""

from bench import report
from bench.bars import FIGURES, Figure, of
from bench.results import RESULTS, Results, Section, load

SPEED = Figure(name="speed", section="tasks", value=of("a_second"), bar=300, dream=800, more=True)
TIME = Figure(name="time", section="tasks", value=of("ms"), bar=30, dream=10, unit=" ms")


def results(**sections: Section) -> Results:
    return Results(machine={}, sections=sections)


def test_the_page_and_the_chart_are_those_of_the_kept_numbers() -> None:
    page, drawing = RESULTS.with_suffix(".md"), RESULTS.with_suffix(".svg")
    stale = "`python -m bench.report` writes it"
    assert page.read_text() == report.page(load(RESULTS), drawing.name), stale
    assert drawing.read_text() == report.drawing(load(RESULTS)), stale


def test_a_figure_has_reached_the_better_of_bar_and_dream() -> None:
    assert [SPEED.reached(value) for value in (299, 300, 799, 800)] == ["**missed**", "bar", "bar", "dream"]
    assert [TIME.reached(value) for value in (31, 30, 11, 10)] == ["**missed**", "bar", "bar", "dream"]


def test_a_figure_is_the_median_of_its_rounds_and_a_ratio_that_of_the_ratios_of_each() -> None:
    section = Section(
        taken="2026-11-27",
        how="3 rounds",
        words={},
        rounds=[
            {"tidemill_a_second": ours, "equal_a_second": theirs}
            for ours, theirs in ((300.0, 1000.0), (400.0, 500.0), (900.0, 1000.0))
        ],
    )
    written = report.page(results(tasks=section), "chart.svg")
    assert "| throughput, /bin/true, one execution: of *equal* | 0.70 | 0.85 | 0.80 | bar |" in written
    assert "`tidemill_a_second` 400.00" in written
    assert report.rates(results(tasks=section)) == {"Tidemill": 400.0, "equal (C)": 1000.0}


def test_what_was_not_measured_is_said_to_be_so() -> None:
    lines = report.page(results(), "chart.svg").splitlines()
    assert sum("| not measured |" in line for line in lines) == len(FIGURES)


def test_a_peer_that_could_not_be_installed_is_in_the_table_with_the_reason() -> None:
    peers = Section(
        taken="2026-11-27",
        how="1 round",
        words={"huey": "huey 3", "ray": "not installed: no wheel"},
        rounds=[{"Tidemill": 200.0, "huey": 400.0}],
    )
    written = report.page(results(peers=peers), "chart.svg")
    assert "| huey | 400 | 0.50 x | huey 3 |" in written
    assert "| ray | | | not installed: no wheel |" in written
