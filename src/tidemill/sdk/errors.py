"""What a call can end with.

SdkError
├── ApiError               the server answered, and the answer is an error
├── ConnectionFailedError  no complete answer came: the server is away, or the connection broke
└── BadAnswerError         an answer came that no Tidemill server gives (a proxy's page, cut JSON)
"""


class SdkError(Exception):
    """Root of everything that the client raises."""


class ApiError(SdkError):
    """An answer with a status of 400 or more; `str()` of it is the server's one sentence for people."""

    def __init__(self, *, status: int, error: str, error_code: str, message: str, request: str) -> None:
        super().__init__(message or error)
        self.status = status
        self.error = error
        """Stable words; empty when the answer was not in the server's error shape."""
        self.error_code = error_code
        """UPPER_SNAKE, never changes; empty like `error`."""
        self.message = message
        self.request = request
        """Method and URL of the request, without its query."""


class ConnectionFailedError(SdkError):
    """The server could not be reached, or the connection ended before the answer did."""

    def __init__(self, *, request: str, reason: str) -> None:
        super().__init__(f"{request}: {reason}")
        self.request = request
        self.reason = reason


class BadAnswerError(SdkError):
    """The answer is not what the API promises, so it cannot be read."""

    def __init__(self, *, request: str, reason: str) -> None:
        super().__init__(f"{request}: {reason}")
        self.request = request
        self.reason = reason
