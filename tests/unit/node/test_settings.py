import os
from pathlib import Path

import pytest

from tidemill.node.settings import default_settings, less_reserve


@pytest.mark.parametrize(("total_mb", "usable_mb"), [(64_000, 57_600), (5_120, 4_608), (5_000, 4_488), (1_024, 512)])
def test_a_tenth_of_the_memory_is_kept_back_and_512_mb_at_least(total_mb: int, usable_mb: int) -> None:
    assert less_reserve(total_mb) == usable_mb


def test_a_node_has_32_slots_a_core() -> None:
    assert default_settings(Path("/nowhere")).slots == 32 * len(os.sched_getaffinity(0))
