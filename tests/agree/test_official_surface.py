"""The served description has every path, method, parameter and property of the official one, but those that come later.

official_surface.json names them: of each operation its parameters, and dotted paths of the members of its bodies.
"""

import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

import pytest

from tidemill.api.described.document import document

SURFACE: Final[dict[str, dict[str, list[str]]]] = json.loads(
    Path(__file__).with_name("official_surface.json").read_text()
)
OURS: Final = document()
LATER: Final[Mapping[str, str]] = {
    "/images": "images",
    "/locations": "policies",
    "/policies": "policies",
}
"""First parts of paths whose operations come with later work."""
LATER_MEMBERS: Final[frozenset[str]] = frozenset()
"""Members of operations that are served already, which come with later work."""


def resolved(schema: Mapping[str, Any]) -> Mapping[str, Any]:
    while "$ref" in schema:
        found = OURS
        for part in schema["$ref"].removeprefix("#/").split("/"):
            found = found[part]
        schema = found
    return schema


def members(schema: Mapping[str, Any], path: str = "", depth: int = 0) -> Iterator[str]:
    """Dotted paths of all members that a body may have; ``[]`` is an element of a list."""
    here = resolved(schema)
    assert depth < 20, path
    for word in ("allOf", "anyOf", "oneOf"):
        for each in here.get(word, ()):
            yield from members(each, path, depth + 1)
    if "items" in here:
        yield from members(here["items"], f"{path}[]", depth + 1)
    for name, member in here.get("properties", {}).items():
        inner = f"{path}.{name}".lstrip(".")
        yield inner
        yield from members(member, inner, depth + 1)


def operations() -> dict[str, Mapping[str, Any]]:
    """What is served, by method and path below /v0, whatever the path's parameters are called."""
    return {
        f"{method.upper()} {nameless(path.removeprefix('/v0'))}": operation
        for path, item in OURS["paths"].items()
        if path.startswith("/v0/")
        for method, operation in item.items()
    }


def nameless(path: str) -> str:
    return re.sub(r"\{\w+\}", "{}", path)


def comes_later(path: str) -> bool:
    return any(path == part or path.startswith(f"{part}/") for part in LATER)


def parameters(operation: Mapping[str, Any]) -> set[str]:
    found = [resolved(each) for each in operation.get("parameters", ())]
    return {f"{each['in']}:{each['name']}" for each in found}


def bodies(operation: Mapping[str, Any]) -> dict[str, set[str]]:
    """The members of what is sent and of what is answered with 200."""
    sent = operation.get("requestBody", {}).get("content", {})
    answered = resolved(operation["responses"]["200"]).get("content", {})
    return {
        kind: set(members(content["application/json"]["schema"])) if "application/json" in content else set()
        for kind, content in (("request", sent), ("answer", answered))
    }


@pytest.mark.parametrize("name", [name for name in SURFACE if not comes_later(name.split()[1])])
def test_an_operation_has_all_parameters_and_members_of_the_official_one(name: str) -> None:
    method, path = name.split()
    official, ours = SURFACE[name], operations()[f"{method} {nameless(path)}"]
    assert set(official["parameters"]) - parameters(ours) == set()
    for kind, found in bodies(ours).items():
        missing = {f"{kind} {member}" for member in set(official.get(kind, ())) - found}
        assert missing - LATER_MEMBERS == set(), name


def test_what_comes_later_is_not_there_yet() -> None:
    """So that the lists above shrink as things come."""
    served = {each.split()[1] for each in operations()}
    whole = {nameless(name.split()[1]) for name in SURFACE}
    for part in LATER:
        assert {path for path in whole if path.startswith(part)} - served, part
    found = {
        f"{kind} {member}" for each in operations().values() for kind, names in bodies(each).items() for member in names
    }
    assert LATER_MEMBERS & found == frozenset()


def test_the_official_surface_is_that_of_jobs_and_what_is_around_them() -> None:
    assert sum(name.split()[1].startswith("/jobs") for name in SURFACE) == 11
    assert len(SURFACE) > 30
