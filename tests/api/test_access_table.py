"""The page that says who may call what is what the application answers."""

from tests.api import access_table
from tidemill.api.scopes import SCOPES


def test_the_page_of_access_is_fresh_and_nothing_is_let_in_that_must_not_be() -> None:
    made = access_table.page()
    assert access_table.PAGE.read_text() == made, "make docs writes it"
    rows = [line.split(" | ") for line in made.splitlines() if line.startswith(("| `GET", "| `P", "| `DEL"))]
    assert len(rows) == len(SCOPES)
    for route, _, none, unknown, *refused in rows:
        expired_key, expired, ended, forged, anothers, less, task, *_ = refused
        assert {none, unknown, expired_key, expired, ended, forged} == {"401"}, route
        assert anothers in {"403", "404"}, route
        assert less == "403", route
        assert task == "403" or ("GET" in route and "{execution}" in route), route
