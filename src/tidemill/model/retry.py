"""How a task that failed is tried again: how long it waits, and what it is never tried again after."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Final

from tidemill.model.execution import Reason

MAX_FACTOR: Final = 100.0
MAX_WAIT_S: Final = 86_400.0
# the ends that are the task's own: all that a retry may be given up for
RETRIED_REASONS: Final = (
    Reason.EXIT_CODE,
    Reason.SIGNAL,
    Reason.OUT_OF_MEMORY,
    Reason.TIMEOUT,
    Reason.LAUNCH_ERROR,
)
# past any number of retries that is accepted; a power beyond it would overflow
_MAX_STEPS: Final = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class RetryPolicy:
    """The first wait, what each later one is multiplied by, the longest one, and exit codes or reasons that end a task.

    ``extra`` keeps members of the wire's that we do not know.
    """

    initial_s: float = 1.0
    factor: float = 2.0
    max_s: float = 60.0
    never_on: tuple[int | Reason, ...] = ()
    extra: Mapping[str, object] = field(default_factory=dict)

    def never(self, reason: Reason, exit_code: int | None) -> str | None:
        """The word of ``never_on`` that forbids another try after such an end; None when none does."""
        for word in self.never_on:
            if word == reason or (reason is Reason.EXIT_CODE and word == exit_code):
                return str(word)
        return None


DEFAULT_POLICY: Final = RetryPolicy()


def backoff(attempt: int, policy: RetryPolicy = DEFAULT_POLICY) -> timedelta:
    """The longest wait after the ``attempt``-th failure (1-based): grows by the factor, never exceeds ``policy.max_s``.

    The caller adds the jitter. Raises ValueError if ``attempt`` < 1.
    """
    if attempt < 1:
        raise ValueError(f"attempt is {attempt}, must be at least 1")
    grown: float = policy.initial_s * policy.factor ** min(attempt - 1, _MAX_STEPS)
    return timedelta(seconds=min(policy.max_s, grown))
