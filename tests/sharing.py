"""Which tests one process must run, when several run the suite (`pytest -n`)."""

from typing import Final

from xdist.scheduler import LoadScopeScheduling

SERVERS: Final = "tests/e2e/"
"""Its files start a server, or install clients, for all of their tests."""
DEATHS: Final = "tests/simulator/test_seeds.py::test_a_server_that_dies_there_breaks_no_promise"
"""They share seeds that were played without a death."""


class Sharing(LoadScopeScheduling):
    """Tests that share what is dear to make go to one process; any other goes to whoever is free.

    What is shared by most tests comes first, and the many short tests last: no process is left alone at the end.
    """

    def _split_scope(self, nodeid: str) -> str:
        return shared(nodeid)


def shared(nodeid: str) -> str:
    """What names the group of a test; of most tests that is themselves."""
    name = nodeid.partition("[")[0]
    if name.startswith(SERVERS):
        return name.partition("::")[0]
    return name if name == DEATHS else nodeid
