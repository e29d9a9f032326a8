"""A node for each test that asks for one."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.node.launching import Launch
from tests.node.rig import Rig
from tidemill.engine.local import LocalEngine


@pytest.fixture
def rig(tmp_path: Path) -> Iterator[Rig]:
    rig = Rig(tmp_path)
    try:
        yield rig
    finally:
        rig.close()


@pytest.fixture
def engine(rig: Rig) -> LocalEngine:
    return rig.engine()


@pytest.fixture
def launch(tmp_path: Path) -> Iterator[Launch]:
    launch = Launch(tmp_path)
    yield launch
    launch.close()
