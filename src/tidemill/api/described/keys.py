"""The operations about the server's key ring and the keys that sign tokens, and the schemas of their answers."""

from collections.abc import Mapping
from typing import Final

from tidemill.api.described.answers import FLAG, TEXT, TIME, WHOLE, Schema, listed, record, ref
from tidemill.api.described.operation import Operation

KEYS: Final[Mapping[tuple[str, str], Operation]] = {
    ("GET", "/v0/keys"): Operation(
        summary="List the keys that seal secrets, and those that sign tokens, by id",
        answer={"allOf": [ref("KeyRing"), ref("SigningKeys")]},
    ),
    ("POST", "/v0/keys/rotate"): Operation(
        summary="A step of a rotation, to be repeated until it is done; drop takes older keys away",
        answer=ref("KeyRing"),
        query={"drop": FLAG},
        errors=[409],
    ),
    ("POST", "/v0/keys/signing/rotate"): Operation(
        summary="Sign tokens with a fresh key; those before it verify until their tokens have ended",
        answer=ref("SigningKeys"),
    ),
    ("DELETE", "/v0/keys/signing/{kid}"): Operation(
        summary="End a key that signs no more: all tokens that it signed are refused at once",
        answer=ref("SigningKeys"),
        errors=[404, 409],
    ),
}
KEYS_SCHEMAS: Final[Mapping[str, Schema]] = {
    "KeyRing": record(
        {
            "keys": listed(record({"id": TEXT, "active": FLAG, "held": FLAG, "envelopes": WHOLE})),
            "unopened": listed(record({"table": TEXT, "id": TEXT, "key": TEXT})),
            "done": FLAG,
            "made": FLAG,
        }
    ),
    "SigningKeys": record(
        {
            "signing": listed(
                record(
                    {
                        "id": TEXT,
                        "active": FLAG,
                        "createdAt": TIME,
                        "verifiesUntil": {"type": ["string", "null"], "format": "date-time"},
                    }
                )
            )
        }
    ),
}
