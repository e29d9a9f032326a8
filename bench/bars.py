"""What is wanted of each figure: a bar that must be reached, and a dream."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from bench.results import Round, middle, ratio

Value = Callable[[Sequence[Round]], float | None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """``value`` is had from the rounds of ``section``. ``more``: it is better when it is higher."""

    name: str
    section: str
    value: Value
    bar: float
    dream: float
    unit: str = ""
    digits: int = 0
    more: bool = False

    def reached(self, value: float) -> str:
        """In a word."""
        sign = 1 if self.more else -1
        if sign * value >= sign * self.dream:
            return "dream"
        return "bar" if sign * value >= sign * self.bar else "**missed**"

    def text(self, value: float) -> str:
        return f"{value:,.{self.digits}f}{self.unit}"


def of(name: str) -> Value:
    return lambda rounds: middle(rounds, name)


def between(above: str, below: str) -> Value:
    return lambda rounds: ratio(rounds, above, below)


_MS: Final = " ms"

FIGURES: Final = (
    Figure(
        name="throughput, /bin/true, one execution: of *equal*",
        section="tasks",
        value=between("tidemill_a_second", "equal_a_second"),
        bar=0.70,
        dream=0.85,
        digits=2,
        more=True,
    ),
    Figure(
        name="CPU a task, server, node and task together: of *equal*",
        section="tasks",
        value=between("tidemill_cpu_ms", "equal_cpu_ms"),
        bar=1.6,
        dream=1.3,
        digits=2,
        unit=" x",
    ),
    Figure(
        name="POST to start of the process, idle, p50",
        section="starts",
        value=of("p50_ms"),
        bar=5,
        dream=3,
        digits=1,
        unit=_MS,
    ),
    Figure(
        name="POST to start of the process, idle, p99",
        section="starts",
        value=of("p99_ms"),
        bar=20,
        dream=10,
        digits=1,
        unit=_MS,
    ),
    Figure(
        name="1,000 executions of one task each, 32 clients: executions a second",
        section="small",
        value=of("executions_a_second"),
        bar=300,
        dream=800,
        more=True,
    ),
    Figure(
        name="idle server and node: share of a core",
        section="idle",
        value=of("percent"),
        bar=0.5,
        dream=0.1,
        digits=2,
        unit=" %",
    ),
    Figure(
        name="idle server and node: wake-ups a second",
        section="idle",
        value=of("wakeups"),
        bar=12,
        dream=2,
        digits=1,
    ),
    Figure(
        name="POST of 1,000,000 tasks with 60 bytes of arguments each",
        section="million",
        value=of("submit_s"),
        bar=10,
        dream=4,
        digits=1,
        unit=" s",
    ),
    Figure(
        name="server's peak memory for them, from POST to the end",
        section="million",
        value=of("peak_mb"),
        bar=400,
        dream=250,
        unit=" MB",
    ),
    Figure(
        name="throughput at task 900,000 of task 10,000",
        section="million",
        value=between("late_a_second", "early_a_second"),
        bar=0.90,
        dream=0.98,
        digits=2,
        more=True,
    ),
    Figure(
        name="GET of that execution while it runs, p99",
        section="million",
        value=of("get_p99_ms"),
        bar=30,
        dream=10,
        digits=1,
        unit=_MS,
    ),
    Figure(
        name="first page of its tasks, p99",
        section="million",
        value=of("first_p99_ms"),
        bar=30,
        dream=10,
        digits=1,
        unit=_MS,
    ),
    Figure(
        name="a page in the middle, p99",
        section="million",
        value=of("middle_p99_ms"),
        bar=30,
        dream=10,
        digits=1,
        unit=_MS,
    ),
    Figure(
        name="another job's task, submitted meanwhile: POST to start, p99",
        section="million",
        value=of("other_p99_ms"),
        bar=100,
        dream=30,
        digits=1,
        unit=_MS,
    ),
)
