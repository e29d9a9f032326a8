"""What is the whole server's, and no single workspace's: admins of the workspace that it began with see to it."""

from tidemill.model.errors import Forbidden
from tidemill.model.principal import Principal
from tidemill.service.parts import Parts


def check(parts: Parts, principal: Principal, what: str) -> None:
    """Raises Forbidden, saying of ``what``, for everybody of another workspace; scopes tell who is an admin."""
    if principal.workspace != parts.home:
        raise Forbidden(f"{what} the whole server's: only admins of the workspace it began with may see to it")
