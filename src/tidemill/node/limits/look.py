"""What a machine would limit, for whoever is not its node: nothing stays behind."""

import os
from contextlib import suppress
from pathlib import Path
from typing import Final

from tidemill.node.limits.cgroup2 import given, take_back
from tidemill.node.limits.facts import LimitFacts
from tidemill.node.limits.files import CgroupFiles
from tidemill.node.limits.groups import Control
from tidemill.node.limits.places import PREFIX, own_places
from tidemill.node.limits.probe import open_groups

FACTS_FILE: Final = "limits.json"


def look() -> LimitFacts:
    """What a node would find that is started where this process is. Takes some 30 ms, and starts processes."""
    files = CgroupFiles()
    places = own_places(files)
    name = f"{PREFIX}look-{os.getpid()}"
    before = {place.folder: _given(files, place.folder) for place in places if place.version == 2}
    groups = open_groups(files, places, name, (os.getpid(),))
    groups.close(files)
    for folder, had in before.items():
        take_back(files, folder, f"{folder}/{name}", {*Control} - had)
    return groups.facts


def of_node(folder: Path) -> LimitFacts | None:
    """What the node with ``folder`` (``node/`` of its data directory) has found; None where it has not said so."""
    try:
        return LimitFacts.from_json((folder / FACTS_FILE).read_text())
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _given(files: CgroupFiles, group: str) -> frozenset[Control]:
    with suppress(OSError):
        return given(files, group)
    return frozenset()
