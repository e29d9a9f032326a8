"""What clients ask for beside jobs is answered at once, with nothing in it, and to nobody unknown."""

import pytest

from tests.api.asking import PAGED, Api

LISTS = ["/v0/agents", "/v0/functions", "/v0/models"]
EMPTY_PAGE = {"data": [], "meta": {"hasMore": False, "nextCursor": "", "total": 0}}


@pytest.mark.parametrize("path", LISTS)
@pytest.mark.parametrize(
    ("version", "shape"),
    [(None, []), ("2026-04-16", []), ("2026-04-20", []), (PAGED, EMPTY_PAGE), ("2026-09-22", EMPTY_PAGE)],
)
def test_lists_of_other_things_are_empty_in_the_shape_of_the_version(
    api: Api, path: str, version: str | None, shape: object
) -> None:
    answer = api.get(f"{path}?limit=200", headers={"Blaxel-Version": version})
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "application/json"
    assert answer.json() == shape


@pytest.mark.parametrize("version", [None, "2026-04-16", PAGED])
def test_templates_are_a_bare_list_in_every_version(api: Api, version: str | None) -> None:
    answer = api.get("/v0/templates", headers={"Blaxel-Version": version})
    assert (answer.status_code, answer.json()) == (200, [])


def test_the_configuration_is_an_object_of_empty_lists(api: Api) -> None:
    answer = api.get("/v0/configuration")
    assert answer.status_code == 200
    assert answer.json() == {"continents": [], "countries": [], "privateLocations": [], "regions": []}


@pytest.mark.parametrize("path", [*LISTS, "/v0/templates", "/v0/configuration"])
def test_they_too_ask_for_a_credential_and_know_their_versions(api: Api, path: str) -> None:
    assert api.get(path, headers={"Authorization": None}).status_code == 401
    assert api.get(path, headers={"X-Blaxel-Workspace": "other"}).status_code == 403
    assert api.get(path, headers={"Blaxel-Version": "1999-01-01"}).json()["error_code"] == "INVALID_API_VERSION"
