"""What holds attempts back, on the wire: the same words for nodes and for attempts (docs/wire.md, Nodes)."""

from collections.abc import Sequence

from tidemill.api.wire import Json, present, timestamp
from tidemill.model.protections import Had, Stated
from tidemill.store.nodes import Seen


def had_view(had: Had | None) -> dict[str, Json] | None:
    """What an attempt ran with; None where nobody has said. ``by`` is how, where there are several ways."""
    if had is None:
        return None
    return present(
        {
            "level": had.level or None,
            "active": [each.value for each in had.active],
            "missing": [each.value for each in had.missing],
            "by": {name.value: way for name, way in sorted(had.by.items()) if way},
        }
    )


def nodes_view(nodes: Sequence[Seen]) -> list[Json]:
    """Nodes, each with what it states of its protections."""
    return [
        {
            "id": node.id,
            "region": node.region,
            "memory": node.memory_mb,
            "slots": node.slots,
            "isolation": node.level,
            "protections": [_stated_view(stated) for stated in node.protections],
            "seenAt": timestamp(node.seen_at),
        }
        for node in nodes
    ]


def _stated_view(stated: Stated) -> dict[str, Json]:
    return {"name": stated.name, "active": stated.active, "says": stated.says, "remedy": stated.remedy}
