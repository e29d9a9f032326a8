"""The key ring rotates: a new key seals from now on, and what older ones sealed is sealed again while requests go on.

Nothing says how far a rotation has come but the envelopes themselves: a step goes on wherever the last one ended, be it
by kill -9 (docs/decisions/0103). For admins of the workspace that the server began with.
"""

import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from functools import partial
from typing import Final

from tidemill.model.errors import Conflict
from tidemill.model.principal import Principal
from tidemill.secrets import KeyRing, key_of, write_private
from tidemill.service import home, sealed
from tidemill.service.parts import Parts
from tidemill.service.sealed import SHOWN, Unopened
from tidemill.store import envelopes
from tidemill.store.envelopes import Holder

STEP_S: Final = 20.0
WAIT: Final = timedelta(minutes=15)
"""What a request sealed before the rotation is written within this."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Key:
    """``held``: by the key ring. ``envelopes``: how many need it."""

    id: str
    active: bool
    held: bool
    envelopes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Keys:
    """``pending``: an envelope that opens is still sealed with an older key. ``made``: this step made the active one.

    ``unopened``: the first 100 of those of older keys that do not open, all of them unless something is pending; they
    are left as they are.
    """

    keys: tuple[Key, ...]
    unopened: tuple[Unopened, ...] = ()
    pending: bool = False
    made: bool = False

    @property
    def done(self) -> bool:
        return not self.pending

    @property
    def needed(self) -> list[Key]:
        """Older keys of the ring that an envelope was sealed with, whether or not it opens."""
        return [key for key in self.keys if key.held and not key.active and key.envelopes]


def show(parts: Parts, principal: Principal) -> Keys:
    """The keys, and what needs each. Reads every revision and every execution, 500 a statement. Raises Forbidden."""
    _check(parts, principal)
    return _survey(parts)


def rotate(parts: Parts, principal: Principal, *, now: datetime) -> Keys:
    """A step of a rotation: makes a key if all that opens is sealed with the active one, then seals for up to 20 s.

    Units of at most 500 statements. What does not open is told of and holds nothing up. Raises Forbidden; Conflict
    while another step runs, and for a key ring that was given where a new key is needed.
    """
    _check(parts, principal)
    with _alone(parts):
        made = _survey(parts).done
        if made:
            _make(parts, now)
        _seal(parts, until=time.monotonic() + STEP_S)
        after = _survey(parts)
    return replace(after, made=made)


def drop(parts: Parts, principal: Principal, *, now: datetime) -> Keys:
    """Take the keys that nothing needs out of the file. Raises Forbidden; Conflict while something may need them.

    What does not open keeps its key: perhaps somebody can mend it.
    """
    _check(parts, principal)
    with _alone(parts):
        ring, found = parts.keyring, _survey(parts)
        if parts.key_file is None:
            raise Conflict(f"{_GIVEN}: take the older keys out of it and start the server again")
        if not found.done:
            needed = ", ".join(f"{key.id} ({key.envelopes})" for key in found.needed)
            raise Conflict(f"envelopes still need older keys: {needed}; go on with the rotation first")
        wait = ring.since + WAIT.total_seconds() - now.timestamp()
        if ring.since and wait > 0:
            raise Conflict(f"requests from before the rotation may still be written: drop in {wait:.0f} s")
        # this process goes on opening what it has read; the next one knows only what is left
        write_private(parts.key_file, ring.only([key.id for key in found.needed]).text())
        kept = KeyRing.parse(parts.key_file.read_text())
    return replace(found, keys=tuple(key for key in found.keys if key.id in kept.keys))


_GIVEN: Final = "the key ring comes from TIDEMILL_KEY_RING, which the server cannot change"


def _check(parts: Parts, principal: Principal) -> None:
    home.check(parts, principal, "the key ring is")


@contextmanager
def _alone(parts: Parts) -> Iterator[None]:
    """One step at a time: two that make a key at once would lose one of them. Raises Conflict."""
    if not parts.rotating.acquire(blocking=False):
        raise Conflict("another step of a rotation is running")
    try:
        yield
    finally:
        parts.rotating.release()


def _make(parts: Parts, now: datetime) -> None:
    if parts.key_file is None:
        raise Conflict(
            f'{_GIVEN}: add a key of 32 random bytes to its "keys", name it in "active", keep the older ones, start '
            "the server again, and rotate once more: what the older keys sealed is sealed again then"
        )
    ring = parts.keyring.rotated(now.timestamp())
    # on disk before it seals anything
    write_private(parts.key_file, ring.text())
    parts.keyring.adopt(ring)


def _seal(parts: Parts, *, until: float) -> None:
    ring = parts.keyring
    for page in _pages(parts):
        changed = []
        for holder in page:
            opened = {
                held: text
                for held in holder.envelopes
                if key_of(held.sealed) != ring.active and (text := sealed.opened(ring, held)) is not None
            }
            if opened:
                new = {held.sealed: ring.seal(text, held.about) for held, text in opened.items()}
                changed.append((holder, new))
        if changed:
            parts.database.write(partial(envelopes.replace_all, changed=changed), wakes=False)
        if time.monotonic() >= until:
            return


def _survey(parts: Parts) -> Keys:
    """Every envelope by its key. Those of older keys are tried, until one opens: then there is work left to do."""
    ring, counts, unopened, pending = parts.keyring, Counter[str](), list[Unopened](), False
    for page in _pages(parts):
        for holder in page:
            counts.update(key_of(held.sealed) for held in holder.envelopes)
            if not pending:
                older = replace(holder, envelopes=[h for h in holder.envelopes if key_of(h.sealed) != ring.active])
                found = list(sealed.unopened(ring, older))
                pending = len(found) < len(older.envelopes)
                unopened += found[: SHOWN - len(unopened)]
    names = sorted({*ring.keys, *counts}, key=lambda name: (name != ring.active, name))
    keys = [Key(id=name, active=name == ring.active, held=name in ring.keys, envelopes=counts[name]) for name in names]
    return Keys(keys=tuple(keys), unopened=tuple(unopened), pending=pending)


def _pages(parts: Parts) -> Iterator[list[Holder]]:
    return sealed.pages(parts.database.read)
