"""Taking over the images that builds left: from where a node put them to where they stay."""

import json
import re
from collections.abc import Iterable
from typing import Final

from tidemill.blobs import Blobs
from tidemill.model.errors import NotFound
from tidemill.model.ids import AttemptId, OwnerKind
from tidemill.model.image import image_blob, incoming_blob
from tidemill.model.lease import Event, OutcomeKind
from tidemill.store.ledger_settle import BuiltImage

_DIGEST: Final = re.compile(r"[0-9a-f]{64}")


def adopt(blobs: Blobs, events: Iterable[Event]) -> dict[AttemptId, BuiltImage]:
    """The images of builds among ``events`` that succeeded; one whose bytes or description are missing is left out.

    Idempotent. Comes before the transaction that says so: an image nobody knows does no harm, a missing one does.
    """
    found: dict[AttemptId, BuiltImage] = {}
    for event in events:
        outcome = event.outcome
        if event.attempt.kind is OwnerKind.BUILD and outcome is not None and outcome.kind is OutcomeKind.SUCCEEDED:
            built = _described(outcome.result)
            if built is not None and _moved(blobs, event.attempt, built.digest):
                found[event.attempt] = built
    return found


def _described(result: str | None) -> BuiltImage | None:
    try:
        described = json.loads(result or "")
        digest, size, manifest = described["digest"], described["size_bytes"], described.get("manifest", {})
    except (ValueError, KeyError, TypeError):
        return None
    if not (isinstance(digest, str) and _DIGEST.fullmatch(digest) and isinstance(size, int)):
        return None
    reference = described.get("reference", "")
    return BuiltImage(
        digest=digest,
        size_bytes=size,
        manifest=manifest if isinstance(manifest, dict) else {},
        reference=reference if isinstance(reference, str) else "",
    )


def _moved(blobs: Blobs, attempt: AttemptId, digest: str) -> bool:
    try:
        blobs.move(incoming_blob(attempt.owner, attempt.number), image_blob(digest))
    except NotFound:
        return False
    return True
