"""Waiting for an execution: the server says when something happens, so nobody looks in vain."""

import math
import time
from http import HTTPStatus

from tidemill.sdk import ApiError, Client, ConnectionFailedError, EventQuery


class Pause:
    """Sleeps until the state of an execution changes, or for a time.

    Made before the execution is looked at: what changes between the look and the sleep ends the sleep at once.
    """

    def __init__(self, client: Client, job: str, execution: str) -> None:
        self._client = client
        self._job, self._execution = job, execution
        self._is_told = True
        self._after: int | None = None
        self._ask(0)

    def sleep(self, seconds: float) -> None:
        """At most so long, in whole seconds where the server does the waiting."""
        if not self._is_told or not self._ask(math.ceil(seconds)):
            time.sleep(seconds)

    def _ask(self, wait_s: int) -> bool:
        """False where the server is away, or is one that tells no events."""
        query = EventQuery(after=self._after, job=self._job, execution=self._execution, tasks=False, wait_s=wait_s)
        try:
            self._after = self._client.events(query)["next"]
        except ConnectionFailedError:
            return False
        except ApiError as error:
            if error.status == HTTPStatus.GONE:
                self._after = None  # it was away for longer than events are kept
                return False
            if error.status != HTTPStatus.NOT_FOUND:
                raise
            self._is_told = False
            return False
        return True
