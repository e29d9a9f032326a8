"""What one process must run is there, under the names that `tests/sharing.py` knows it by."""

import pytest

from tests.agree.test_semantics import ROOT, collected
from tests.sharing import DEATHS, SERVERS, shared


def test_the_names_are_those_of_tests() -> None:
    file, _, name = DEATHS.partition("::")
    assert name in collected(ROOT / file)
    assert sorted((ROOT / SERVERS).rglob("test_*.py"))


@pytest.mark.parametrize(
    ("test", "group"),
    [
        ("tests/e2e/test_why.py::test_one", "tests/e2e/test_why.py"),
        ("tests/e2e/clients/test_clients.py::test_two[a::b/c]", "tests/e2e/clients/test_clients.py"),
        (f"{DEATHS}[before engine.launch]", DEATHS),
        ("tests/api/test_jobs.py::TestDelete::test_one[a]", "tests/api/test_jobs.py::TestDelete::test_one[a]"),
        ("tests/simulator/test_seeds.py::test_other[1]", "tests/simulator/test_seeds.py::test_other[1]"),
    ],
)
def test_a_file_of_servers_and_all_deaths_are_one_group_and_other_tests_are_their_own(test: str, group: str) -> None:
    assert shared(test) == group
