"""Nodes as whoever runs the server sees them."""

from collections.abc import Sequence

from tidemill.model.principal import Principal
from tidemill.service import home
from tidemill.service.parts import Parts
from tidemill.store import nodes
from tidemill.store.nodes import Seen


def list_all(parts: Parts, principal: Principal) -> Sequence[Seen]:
    """Every node that was ever seen, as it was last. One statement. Raises Forbidden."""
    home.check(parts, principal, "nodes are")
    return parts.database.read(nodes.find_all)
