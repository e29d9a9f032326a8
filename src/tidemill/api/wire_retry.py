"""``spec.runtime.retryPolicy`` (docs/wire.md, Ours besides)."""

from typing import Final

from tidemill.api.wire import Body, Json
from tidemill.model.errors import Invalid
from tidemill.model.execution import Reason
from tidemill.model.quoted import quoted
from tidemill.model.retry import DEFAULT_POLICY, RETRIED_REASONS, RetryPolicy

_WHERE: Final = "spec.runtime.retryPolicy.neverOn"
_REASONS: Final = {reason.value.lower(): reason for reason in RETRIED_REASONS}
_EXIT_CODES: Final = range(1, 256)


class RetryPolicyBody(Body):
    """Members that are absent or null have their defaults: a policy is replaced as a whole."""

    initial_seconds: float | None = None
    factor: float | None = None
    max_seconds: float | None = None
    # each is looked at by ``_end``: a union would tell of two faults where there is one
    never_on: list[Json] | None = None


def retry_policy(body: RetryPolicyBody | None) -> RetryPolicy | None:
    """The policy that was sent; its numbers are yet to be checked. Raises Invalid for a word of ``neverOn``."""
    if body is None:
        return None
    default = DEFAULT_POLICY
    return RetryPolicy(
        initial_s=default.initial_s if body.initial_seconds is None else body.initial_seconds,
        factor=default.factor if body.factor is None else body.factor,
        max_s=default.max_s if body.max_seconds is None else body.max_seconds,
        never_on=tuple(dict.fromkeys(_end(index, word) for index, word in enumerate(body.never_on or ()))),
        extra=body.model_extra or {},
    )


def retry_view(policy: RetryPolicy) -> dict[str, Json]:
    """All that holds, defaults as well."""
    return {
        **policy.extra,
        "initialSeconds": policy.initial_s,
        "factor": policy.factor,
        "maxSeconds": policy.max_s,
        "neverOn": list(policy.never_on),
    }


def _end(index: int, word: Json) -> int | Reason:
    """An exit code, or a condition in any case."""
    if isinstance(word, int) and not isinstance(word, bool) and word in _EXIT_CODES:
        return word
    if isinstance(word, str) and word.lower() in _REASONS:
        return _REASONS[word.lower()]
    known = ", ".join(reason.value for reason in RETRIED_REASONS)
    raise Invalid(f"{_WHERE}[{index}] is {quoted(word)}; it must be an exit code, 1 to 255, or one of {known}")
