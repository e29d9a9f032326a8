"""When a deploy has ended, and how."""

from tidemill.cli.deploy import verdict
from tidemill.sdk import Job
from tidemill.sdk.wire import Event

UPLOADING = Event(time="2026-08-21T10:00:00Z", status="UPLOADING", message="waiting for source")
OLD = Event(time="2026-08-20T10:00:00Z", status="DEPLOYED")


def job(status: str, *events: Event) -> Job:
    return Job(status=status, events=list(events))


def test_the_deploy_before_is_not_taken_for_this_one() -> None:
    assert verdict(job("DEPLOYED", OLD, UPLOADING), [OLD, UPLOADING], moved=False) == ""
    assert verdict(job("FAILED"), [], moved=False) == ""


def test_a_state_on_the_way_is_no_verdict() -> None:
    assert verdict(job("BUILDING"), [], moved=True) == ""


def test_a_final_state_after_one_on_the_way_is_the_verdict() -> None:
    assert verdict(job("DEPLOYED", OLD), [OLD], moved=True) == "DEPLOYED"
    assert verdict(job("FAILED", OLD), [OLD], moved=True) == "FAILED"


def test_a_build_too_quick_to_be_seen_is_known_by_its_event() -> None:
    new = Event(time="2026-08-21T10:00:01Z", status="DEPLOYED")
    assert verdict(job("DEPLOYED", new, OLD), [OLD], moved=False) == "DEPLOYED"


def test_a_failure_is_seen_although_the_old_revision_serves_on() -> None:
    new = Event(time="2026-08-21T10:00:01Z", status="FAILED", message="no entrypoint")
    assert verdict(job("DEPLOYED", new, OLD), [OLD], moved=True) == "FAILED"
