"""What an attempt ran with, as it is kept."""

from itertools import product

import pytest

from tidemill.model.protections import (
    _BITS,
    _LEVELS,
    ACTIVE,
    BY_USER,
    CGROUP_1,
    CGROUP_2,
    FORKLESS,
    MEANS,
    WATCHED,
    Had,
    Protection,
    read_had,
)
from tidemill.node.isolation.level import Level

WAYS = [*_BITS]


def test_what_was_kept_long_ago_is_read_as_it_was() -> None:
    kept = Had(
        level="process",
        by={
            Protection.NO_NEW_PRIVILEGES: ACTIVE,
            Protection.CAPABILITIES: ACTIVE,
            Protection.LANDLOCK: ACTIVE,
            Protection.SIGNALS: ACTIVE,
            Protection.SECCOMP: ACTIVE,
            Protection.OWN_UID: ACTIVE,
            Protection.HIDDEN_PROCESSES: ACTIVE,
            Protection.MEMORY: CGROUP_1,
            Protection.PIDS: CGROUP_1,
            Protection.CPU: CGROUP_1,
            Protection.KILL: FORKLESS,
        },
    )
    assert kept.to_number() == 337_913
    assert read_had(kept.to_number()) == kept
    # what there was not then
    assert kept.missing == (Protection.OWN_ROOT, Protection.OWN_TEMPORARY, Protection.METADATA)


@pytest.mark.parametrize("level", [*Level, ""])
def test_every_level_and_every_way_is_kept(level: str) -> None:
    for (name, way), watched in product(WAYS, (True, False)):
        by = {name: way} | ({Protection.MEMORY: WATCHED} if watched and name is not Protection.MEMORY else {})
        had = Had(level=level, by=by)
        assert read_had(had.to_number()) == had


def test_no_bit_has_two_meanings_and_no_protection_none() -> None:
    bits = [*_LEVELS.values(), *_BITS.values()]
    assert sum(bits) == (1 << len(bits)) - 1
    assert {name for name, _ in WAYS} == {*Protection} == {*MEANS}


def test_what_is_watched_or_counted_for_a_user_is_missing_all_the_same() -> None:
    had = Had(level="process", by={Protection.MEMORY: WATCHED, Protection.PIDS: BY_USER, Protection.CPU: CGROUP_2})
    assert had.active == (Protection.CPU,)
    assert {Protection.MEMORY, Protection.PIDS} < {*had.missing}


def test_a_way_that_nobody_knows_is_not_kept_and_a_bit_that_nobody_knows_is_left_out() -> None:
    with pytest.raises(KeyError):
        Had(level="process", by={Protection.MEMORY: "hope"}).to_number()
    with pytest.raises(KeyError):
        Had(level="moon", by={}).to_number()
    assert read_had(1 << 40 | 1) == Had(level="process", by={})
