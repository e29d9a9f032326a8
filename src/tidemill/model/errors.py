"""Every error a caller can be answered with.

::

    TidemillError
    ├── Invalid              what was sent cannot be right          INVALID
    │   ├── TooLarge         it is bigger than a limit allows       TOO_LARGE
    │   ├── UnknownVersion   an API version that does not exist     INVALID_API_VERSION
    │   └── GrantRefused     no token for what was sent             GRANT_REFUSED
    ├── Unauthorized         no credential, or a bad one            UNAUTHORIZED
    ├── Forbidden            a good credential without the right    FORBIDDEN
    ├── NotFound             not in this workspace                  NOT_FOUND
    ├── Conflict             not in the state it is in now          CONFLICT
    │   ├── AlreadyExists    the name or id is taken                ALREADY_EXISTS
    │   └── NotRunnable      the job takes no executions now        NOT_RUNNABLE
    ├── Gone                 it was kept for its time, and is over  GONE
    ├── OverQuota            a cap of the workspace is reached      OVER_QUOTA
    ├── RateLimited          too many requests in a short time      RATE_LIMITED
    ├── TooSlow              a request did not arrive in time       REQUEST_TIMEOUT
    ├── HeadTooLarge         too many headers, or too long ones     HEADERS_TOO_LARGE
    ├── TooManyTries         at a password or a code                TOO_MANY_TRIES
    ├── Overloaded           too much waits to be written           OVERLOADED
    ├── OutOfSpace           nothing can be written now             OUT_OF_SPACE
    ├── EngineUnavailable    an engine does not answer              ENGINE_UNAVAILABLE
    ├── ProviderTrouble      an OpenID provider does not answer     PROVIDER_TROUBLE
    ├── StaleTerm            a scheduler without the right to give  STALE_TERM
    └── IllegalMove          a bug: an event its state forbids      ILLEGAL_MOVE
"""

from typing import ClassVar


class TidemillError(Exception):
    """Base of all; ``str()`` is one sentence for the user: what, which, and what would be right."""

    error_code: ClassVar[str] = "ERROR"
    words: str = "error"
    """The stable short text of the answer's ``error`` member."""

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.message = message


class Invalid(TidemillError):
    error_code = "INVALID"
    words = "Bad request"


class TooLarge(Invalid):
    error_code = "TOO_LARGE"
    words = "Request too large"


class UnknownVersion(Invalid):
    error_code = "INVALID_API_VERSION"
    words = "invalid_api_version"  # the contract's own (docs/wire.md, 3.1)


class GrantRefused(Invalid):
    """``words`` is one of the words of RFC 6749, section 5.2, and its successors: programs decide by it."""

    error_code = "GRANT_REFUSED"

    def __init__(self, words: str, message: str) -> None:
        super().__init__(message)
        self.words = words


class Unauthorized(TidemillError):
    error_code = "UNAUTHORIZED"
    words = "Unauthorized"


class Forbidden(TidemillError):
    error_code = "FORBIDDEN"
    words = "Forbidden"

    def __init__(self, message: str, *, by: tuple[str, str, str] | None = None) -> None:
        """``by``: somebody who was refused before they acted in a workspace: kind, id, kind of credential."""
        super().__init__(message)
        self.by = by


class NotFound(TidemillError):
    error_code = "NOT_FOUND"
    words = "Not found"


class Conflict(TidemillError):
    error_code = "CONFLICT"
    words = "Conflict"


class AlreadyExists(Conflict):
    error_code = "ALREADY_EXISTS"
    words = "Already exists"


class NotRunnable(Conflict):
    error_code = "NOT_RUNNABLE"
    words = "Job takes no executions"


class Gone(TidemillError):
    error_code = "GONE"
    words = "Gone"


class OverQuota(TidemillError):
    error_code = "OVER_QUOTA"
    words = "Maximum parallel executions limit reached"


class RateLimited(TidemillError):
    error_code = "RATE_LIMITED"
    words = "Too many requests"


class TooSlow(TidemillError):
    error_code = "REQUEST_TIMEOUT"
    words = "Request timeout"


class HeadTooLarge(TidemillError):
    error_code = "HEADERS_TOO_LARGE"
    words = "Request header fields too large"


class TooManyTries(TidemillError):
    error_code = "TOO_MANY_TRIES"
    words = "Too many tries"


class Overloaded(TidemillError):
    error_code = "OVERLOADED"
    words = "Server overloaded"


class OutOfSpace(TidemillError):
    error_code = "OUT_OF_SPACE"
    words = "No space left"


class EngineUnavailable(TidemillError):
    error_code = "ENGINE_UNAVAILABLE"
    words = "Engine unavailable"


class ProviderTrouble(TidemillError):
    error_code = "PROVIDER_TROUBLE"
    words = "Provider trouble"


class StaleTerm(TidemillError):
    error_code = "STALE_TERM"
    words = "Stale term"


class IllegalMove(TidemillError):
    error_code = "ILLEGAL_MOVE"
    words = "Internal error"
