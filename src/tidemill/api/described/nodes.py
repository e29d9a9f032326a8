"""The operations about nodes, and the schemas of what holds tasks back."""

from collections.abc import Mapping
from typing import Final

from tidemill.api.described.answers import FLAG, TEXT, TIME, WHOLE, Schema, listed, record, ref
from tidemill.api.described.operation import Operation

NODES: Final[Mapping[tuple[str, str], Operation]] = {
    ("GET", "/v0/nodes"): Operation(
        summary="List the nodes, with the protections that each has and lacks, and how to get these",
        answer=listed(ref("Node")),
    ),
}
NODE_SCHEMAS: Final[Mapping[str, Schema]] = {
    "Node": record(
        {
            **dict.fromkeys(("id", "region", "isolation"), TEXT),
            **dict.fromkeys(("memory", "slots"), WHOLE),
            "protections": listed(record({"name": TEXT, "active": FLAG, "says": TEXT, "remedy": TEXT})),
            "seenAt": TIME,
        }
    ),
}
