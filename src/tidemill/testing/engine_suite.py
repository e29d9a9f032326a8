"""What every engine must do: one list of cases, run over any engine through a small harness.

A test of an engine is three lines (docs/engines.md)::

    @pytest.mark.parametrize("case", CASES, ids=name_of)
    def test_my_engine_keeps_the_contract(case: Case, harness: Harness) -> None:
        case(harness)

A case that an engine has no ability for raises ``unittest.SkipTest`` with the reason, which pytest prints.
"""

from typing import Final

from tidemill.testing import engine_events as events
from tidemill.testing import engine_leases as leases
from tidemill.testing.engine_harness import EXIT_CODE, PRINTED, RESULT, Case, Does, Harness, an_attempt

__all__ = ["CASES", "EXIT_CODE", "PRINTED", "RESULT", "Case", "Does", "Harness", "an_attempt", "name_of"]

CASES: Final[tuple[Case, ...]] = (
    events.a_node_says_what_it_is,
    events.a_process_that_exits_with_0_succeeds,
    events.another_exit_code_is_told,
    events.a_result_comes_with_the_outcome,
    events.events_come_again_until_they_are_acknowledged,
    events.what_is_acknowledged_is_forgotten,
    events.an_acknowledgement_that_comes_again_forgets_nothing_more,
    events.a_position_of_another_incarnation_acknowledges_nothing,
    events.log_blocks_come_again_until_they_are_acknowledged,
    events.log_blocks_are_numbered_and_acknowledged_one_by_one,
    events.a_new_incarnation_replays_outcomes_and_reports_what_died,
    events.a_new_incarnation_does_not_repeat_what_was_acknowledged,
    events.a_new_incarnation_shows_log_blocks_again_under_their_ids,
    leases.a_process_over_its_time_is_ended,
    leases.launching_twice_starts_once,
    leases.what_does_not_fit_waits_in_the_order_given,
    leases.an_older_term_is_refused,
    leases.any_call_with_a_term_raises_it_and_a_crash_does_not_lower_it,
    leases.cancel_ends_a_process_and_only_that_one,
    leases.cancel_by_force_ends_what_does_not_want_to_end,
    leases.what_is_cancelled_before_it_starts_never_does,
    leases.what_has_ended_is_not_cancelled,
    leases.only_what_has_not_started_is_withdrawn,
    leases.what_was_withdrawn_can_be_launched_again,
    leases.inventory_knows_what_waits_runs_and_has_ended,
    leases.a_crash_leaves_nothing_that_was_never_started_behind,
    leases.a_lease_that_nobody_renews_expires,
    leases.a_lease_lives_on_while_it_is_renewed,
    leases.a_lease_lives_on_while_it_is_launched_again,
    leases.a_renewal_gives_no_time_to_live_to_a_lease_that_has_none,
    leases.what_expires_before_it_starts_is_forgotten,
    leases.an_unknown_node_is_unavailable,
)


def name_of(case: Case) -> str:
    """The case as a test's id."""
    return case.__name__
