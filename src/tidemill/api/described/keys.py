"""The operations about the server's key ring, and the schema of their answers."""

from collections.abc import Mapping
from typing import Final

from tidemill.api.described.answers import FLAG, TEXT, WHOLE, Schema, listed, record, ref
from tidemill.api.described.operation import Operation

KEYS: Final[Mapping[tuple[str, str], Operation]] = {
    ("GET", "/v0/keys"): Operation(summary="List the keys that seal secrets, by id", answer=ref("KeyRing")),
    ("POST", "/v0/keys/rotate"): Operation(
        summary="A step of a rotation, to be repeated until it is done; drop takes older keys away",
        answer=ref("KeyRing"),
        query={"drop": FLAG},
        errors=[409],
    ),
}
KEYS_SCHEMAS: Final[Mapping[str, Schema]] = {
    "KeyRing": record(
        {
            "keys": listed(record({"id": TEXT, "active": FLAG, "held": FLAG, "envelopes": WHOLE})),
            "done": FLAG,
            "made": FLAG,
        }
    )
}
