"""Which tasks a search finds: they are called ``task-INDEX``, so that arithmetic answers it and no row is read."""

from collections.abc import Iterator
from heapq import merge
from itertools import repeat
from typing import Final

NAME_PREFIX: Final = "task-"


def runs(text: str, low: int, high: int, *, descending: bool = False) -> Iterator[range]:
    """The indices ``low`` <= i < ``high`` of tasks whose name contains ``text`` (lower case), as disjoint ranges.

    They come in ascending order, or with ``descending`` from the highest range down. What they are is found as they are
    taken: the next one costs the same however far it is.
    """
    places = _places(text, low, high)
    if descending:
        stops = [(range(starts.start + unit, starts.stop + unit, starts.step)[::-1], unit) for starts, unit in places]
        for stop, unit in merge(*(zip(each, repeat(unit)) for each, unit in stops), reverse=True):
            run = range(max(stop - unit, low), min(stop, high))
            if run:
                yield run
                high = run.start
    else:
        for start, less in merge(*(zip(starts, repeat(-unit)) for starts, unit in places)):
            run = range(max(start, low), min(start - less, high))
            if run:
                yield run
                low = run.stop


def _places(text: str, low: int, high: int) -> list[tuple[range, int]]:
    """Where in an index the digits of ``text`` may be; empty when no name contains it.

    For each place: where the indices begin that have them there and reach into ``low`` <= i < ``high``, and how many
    follow each other.
    """
    if text in NAME_PREFIX:
        return [(range(low, high, max(high - low, 1)), high - low)]
    head, dash, digits = text.rpartition("-")
    if not (digits.isascii() and digits.isdecimal()) or (dash and not NAME_PREFIX.endswith(head + dash)):
        return []
    found = []
    for place in range(len(str(high)) - len(digits) + 1):
        # indices with the digits at this place are n * block + value .. + unit - 1
        unit = 10**place
        block, value = unit * 10 ** len(digits), int(digits) * unit
        # a number does not begin with a zero, unless it is zero
        hidden = digits[0] == "0" and (len(digits) > 1 or place > 0)
        least = max(-((value + unit - 1 - low) // block), int(hidden))
        if not dash:
            found.append((range(least * block + value, high, block), unit))
        elif not hidden:
            # behind the dash stand the first digits of the number: nothing comes before them
            found.append((range(value, min(value + 1, high)), unit))
    return found
