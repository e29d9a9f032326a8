"""One row of the description: what one method of one path takes and gives."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from tidemill.api.described.answers import Schema
from tidemill.api.wire import Body


@dataclass(frozen=True, slots=True, kw_only=True)
class Operation:
    """What one method of one path takes and gives.

    ``sent`` is the schema of a body that no model checks, ``accepted`` the answer with the status 202, if there is one.
    ``query``: its parameters, ``required`` those of them that must be there; ``headers``: those of its own. ``forms``:
    the body may be a form as well.
    """

    summary: str
    answer: Schema
    body: type[Body] | None = None
    query: Mapping[str, Schema] | None = None
    required: Sequence[str] = ()
    headers: Sequence[str] = ()
    errors: Sequence[int] = ()
    media: str = "application/json"
    forms: bool = False
    public: bool = False
    sent: Schema | None = None
    accepted: Schema | None = None
