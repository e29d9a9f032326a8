"""``spec.revision`` on the wire, and the list of revisions (docs/wire.md, Revisions)."""

from collections.abc import Mapping
from typing import Final

from tidemill.api.wire import Body, Json, timestamp
from tidemill.model.canary import MAX_STICKY_S, WHOLE_PERCENT, Rollout
from tidemill.model.errors import Invalid
from tidemill.model.job import Revision
from tidemill.service.rollouts import NO_CHANGE, TO_DEFAULT, RolloutChange
from tidemill.service.wishes import UNSET, Wish

_SHOWN: Final = 64


class RevisionBody(Body):
    """A RevisionConfiguration. Its members are checked by hand, so that a message can say what would be right."""

    active: Json = None
    canary: Json = None
    canary_percent: Json = None
    sticky_session_ttl: Json = None
    traffic: Json = None


def active_wish(body: RevisionBody | None) -> str:
    """The id of the revision that is to be active, empty for no wish. Raises Invalid."""
    return "" if body is None else _id("active", body.active)


def rollout_change(body: RevisionBody | None, *, present: bool) -> RolloutChange:
    """What the request says about the canary and the traffic; ``present``: it has the member. Raises Invalid.

    A member that is absent keeps what is there. All of it empty or 0 is how Go prints what was never set: no wish. So
    is traffic 0 beside an empty ``active``.
    """
    if body is None:
        return TO_DEFAULT if present else NO_CHANGE
    change = RolloutChange(
        canary=(_id("canary", body.canary) or None) if body.has("canary") else UNSET,
        canary_percent=_wish(body, "canary_percent", WHOLE_PERCENT),
        sticky_ttl_s=_wish(body, "sticky_session_ttl", MAX_STICKY_S),
        traffic=_wish(body, "traffic", WHOLE_PERCENT),
    )
    unset_in_go = change.traffic == 0 and body.has("active") and not _id("active", body.active)
    if not unset_in_go:
        return change
    if (change.canary, change.canary_percent, change.sticky_ttl_s) == (None, 0, 0):
        return NO_CHANGE
    return RolloutChange(canary=change.canary, canary_percent=change.canary_percent, sticky_ttl_s=change.sticky_ttl_s)


def configuration_view(active: str, rollout: Rollout, unknown: Mapping[str, Json]) -> dict[str, Json]:
    """A RevisionConfiguration; ``unknown`` are members that are only kept."""
    return {
        **unknown,
        "active": active,
        "canary": rollout.canary,
        "canaryPercent": rollout.canary_percent,
        "stickySessionTtl": rollout.sticky_ttl_s,
        "traffic": rollout.traffic,
    }


def revision_view(revision: Revision) -> dict[str, Json]:
    """A RevisionMetadata."""
    return {
        "id": revision.id,
        "createdAt": timestamp(revision.created_at),
        "createdBy": revision.created_by,
        "status": revision.state.value,
        "active": revision.active,
        "canary": revision.canary,
        "previousActive": revision.previous,
        "trafficPercent": revision.percent,
    }


def _id(name: str, value: Json) -> str:
    if value is None:
        return ""
    if not isinstance(value, str):
        raise Invalid(f"spec.revision.{name} is {_shown(value)}; it must be the id of a revision, as text")
    return value


def _wish(body: RevisionBody, name: str, most: int) -> Wish[int]:
    if not body.has(name):
        return UNSET
    value: Json = getattr(body, name)
    if value is None:
        return None
    # to Python, true is a number
    if isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= most:
        return value
    unit = " seconds, a year" if most == MAX_STICKY_S else ""
    alias = type(body).model_fields[name].alias
    raise Invalid(f"spec.revision.{alias} is {_shown(value)}; it must be a whole number, 0 to {most}{unit}")


def _shown(value: Json) -> str:
    text = repr(value)
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}..."
