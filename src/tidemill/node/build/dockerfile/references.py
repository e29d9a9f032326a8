"""Which images a Dockerfile begins with, read without running any of it.

Only as far as it takes to fetch them ahead with credentials that no step may see: what is not understood is left out,
and fetched by the builder, without credentials.
"""

import re
from collections.abc import Iterator, Mapping
from typing import Final

_VARIABLE: Final = re.compile(r"\$(?:(\w+)|\{(\w+)(?::([-+])([^}]*))?\})")
_ARGUMENT: Final = re.compile(r"ARG\s+(\w+)(?:=(.*))?", re.IGNORECASE)
_FROM: Final = re.compile(r"FROM\s+(?:--\S+\s+)*(\S+)(?:\s+AS\s+(\S+))?\s*", re.IGNORECASE)
_COPY: Final = re.compile(r"(?:COPY|ADD)\s+(?:--\S+\s+)*?--from=(\S+)\s", re.IGNORECASE)
_CONTINUED: Final = re.compile(r"\\[ \t]*\n(?:[ \t]*#.*\n)*")
_EMPTY: Final = "scratch"


def base_images(dockerfile: str, arguments: Mapping[str, str]) -> tuple[str, ...]:
    """What its FROM and ``COPY --from=`` name, in order, but for its own stages and ``scratch``.

    ``arguments`` are those of the build; they win over the defaults of ARG.
    """
    return tuple(dict.fromkeys(_images(dockerfile, arguments)))


def _images(dockerfile: str, arguments: Mapping[str, str]) -> Iterator[str]:
    known: dict[str, str] = {}
    stages: set[str] = {_EMPTY}
    begun = 0
    for line in _CONTINUED.sub(" ", dockerfile).splitlines():
        text = line.strip()
        if not begun and (argument := _ARGUMENT.match(text)):
            name, default = argument.groups()
            known[name] = arguments.get(name, _filled((default or "").strip("\"'"), known))
        elif begins := _FROM.fullmatch(text):
            image, stage = begins.groups()
            yield from _foreign(_filled(image, known), stages)
            stages |= {str(begun), (stage or "").lower()}
            begun += 1
        elif copied := _COPY.match(text):
            yield from _foreign(copied[1], stages)


def _foreign(image: str, stages: set[str]) -> Iterator[str]:
    if image and "$" not in image and image.lower() not in stages:
        yield image


def _filled(text: str, known: Mapping[str, str]) -> str:
    """``text`` with the values of its variables; one that is not known is empty, as the builder has it."""

    def value(found: "re.Match[str]") -> str:
        plain, braced, how, word = found.groups()
        has = known.get(plain or braced, "")
        if how == "-":
            return has or word
        return (word if has else "") if how == "+" else has

    return _VARIABLE.sub(value, text)
