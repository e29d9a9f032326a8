"""Which images a Dockerfile begins with, as far as that can be read."""

import pytest

from tidemill.node.build.dockerfile.references import base_images


@pytest.mark.parametrize(
    ("dockerfile", "found"),
    [
        ("FROM scratch\n", ()),
        (
            "from r.example/a:1 as One\nFROM one\nFROM --platform=linux/amd64 r.example/b\n",
            ("r.example/a:1", "r.example/b"),
        ),
        ("ARG TAG=1\nARG BASE=r.example/a:${TAG}\nFROM $BASE\n", ("r.example/a:given",)),
        ("FROM r.example/a:${MISSING:-2}${TAG:+-x}\n", ("r.example/a:2",)),
        ("ARG TAG\nFROM r.example/a:${TAG:+has-}$TAG\n", ("r.example/a:has-given",)),
        (
            "FROM a AS x\nCOPY --chown=1:1 --from=r.example/t /t /t\nCOPY --from=x /a /b\nCOPY --from=0 /a /b\n",
            ("a", "r.example/t"),
        ),
        ("# FROM no\nFROM \\\n  # between\n  r.example/a \\\n  AS b\nRUN echo FROM no\n", ("r.example/a",)),
        ("FROM a\nFROM a\nCOPY --from=a / /a\n", ("a",)),
        ("FROM a\nARG TAG=9\nFROM b:$TAG\n", ("a", "b:")),
        ("FROM ${ODD/x/y}\nFROM\nFROM a b c d\n", ()),
        ("", ()),
    ],
)
def test_what_from_names_is_found(dockerfile: str, found: tuple[str, ...]) -> None:
    assert base_images(dockerfile, {"TAG": "given"}) == found
