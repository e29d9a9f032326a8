"""Callbacks on their way: threads that send what the outbox holds, none of which the scheduler ever waits for."""

import threading
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from typing import Final

import structlog

from tidemill.model.callback import older_about, pause, secret_about
from tidemill.model.states import DeliveryEvent
from tidemill.outgoing import webhook
from tidemill.outgoing.client import Client, NotSent
from tidemill.outgoing.guard import Refused
from tidemill.outgoing.webhook import Told
from tidemill.scheduler.problems import Problems
from tidemill.scheduler.receivers import THREADS, Sending, next_due, picks
from tidemill.secrets import KeyRing, KeyRingError
from tidemill.store import outbox
from tidemill.store.database import Database
from tidemill.store.outbox import Claimed, Place, Result

_SOURCE: Final = "callbacks"
# what other servers put into the outbox is found by looking
_LOOK_EVERY_S: Final = 15.0
_AGAIN_S: Final = 1.0
_LOG: Final = structlog.get_logger("tidemill.callbacks")


@dataclass(frozen=True, slots=True, kw_only=True)
class Tools:
    """``jitter`` gives numbers from 0 to 1 for the waits between tries."""

    database: Database
    keyring: KeyRing
    client: Client
    clock: Callable[[], datetime]
    jitter: Callable[[], float]


class Deliverer:
    """One thread that claims what is due, and up to 32 that send it.

    A row is claimed before it is sent and settled afterwards: a death in between sends it again, once its lease is over
    or the server has started anew.
    """

    def __init__(self, tools: Tools, problems: Problems | None = None) -> None:
        self._tools = tools
        self._problems = problems or Problems()
        self._pool = ThreadPoolExecutor(max_workers=THREADS, thread_name_prefix="tidemill-callback")
        self._sending: Sending = Counter()
        self._lock = threading.Lock()
        self._turn = 0
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="tidemill-callbacks", daemon=True)

    def start(self) -> None:
        """Begin. Nobody else sends from this database: a lease that is left is that of a server that died."""
        self._tools.database.write(partial(outbox.release, now=self._tools.clock()), urgent=True, wakes=False)
        self._thread.start()

    def stop(self) -> None:
        """Claim nothing more, and cut short what is being sent: it is sent again after the next start."""
        self._stopping.set()
        self._tools.client.abort()
        self._tools.database.deliveries.signal()

    def join(self) -> None:
        """Until the last of them has said what became of it: as long as a connection may take to be made."""
        if self._thread.ident is not None:
            self._thread.join()
        self._pool.shutdown()

    def _run(self) -> None:
        deliveries = self._tools.database.deliveries
        while not self._stopping.is_set():
            seen = deliveries.count  # before the look: what is committed during it wakes us again
            wait = self._pass()
            if wait > 0 and not self._stopping.is_set():
                deliveries.wait(seen, wait)

    def _pass(self) -> float:
        """Hand out what is due; seconds until something more may be."""
        try:
            wait = self._hand_out(self._tools.clock())
        except Exception as error:  # noqa: BLE001 - the top of a loop: said, and tried again
            if self._problems.report(_SOURCE, f"{type(error).__name__}: {error}"):
                _LOG.error("callbacks not delivered", exc_info=error)
            return _AGAIN_S
        self._problems.clear(_SOURCE)
        return wait

    def _hand_out(self, now: datetime) -> float:
        database = self._tools.database
        places = database.read(outbox.places)
        with self._lock:
            wanted = picks(places, self._sending, now=now, start=self._turn)
        self._turn += 1
        if wanted:
            claimed = database.write(partial(outbox.claim, picks=wanted, now=now), urgent=True, wakes=False)
            for each in claimed:
                self._send(each)
        return _seconds_to(places, now)

    def _send(self, claimed: Claimed) -> None:
        place = (claimed.workspace, claimed.receiver)
        with self._lock:
            self._sending[place] += 1
        self._pool.submit(self._deliver, claimed).add_done_callback(lambda _: self._done(place))

    def _done(self, place: tuple[str, str]) -> None:
        with self._lock:
            self._sending[place] -= 1
            if not self._sending[place]:
                del self._sending[place]
        # there is a free thread
        self._tools.database.deliveries.signal()

    def _deliver(self, claimed: Claimed) -> None:
        try:
            result = self._tried(claimed)
        except Exception as error:  # noqa: BLE001 - the top of a thread: a try that failed, else it would never end
            _LOG.error("a callback could not be sent", execution=claimed.execution_id, exc_info=error)
            result = self._failed(claimed, None, f"the server could not send it: {type(error).__name__}")
        try:
            settled = partial(outbox.settle, claimed=claimed, result=result, now=self._tools.clock())
            self._tools.database.write(settled, urgent=True, wakes=False)
        except Exception as error:  # noqa: BLE001 - the top of a thread: its lease ends, and it is sent again
            if self._problems.report(_SOURCE, f"{type(error).__name__}: {error}"):
                _LOG.error("a callback's end was not written down", exc_info=error)
            return
        _tell(claimed, result)

    def _tried(self, claimed: Claimed) -> Result:
        """What one try comes to."""
        if self._stopping.is_set():
            return Result(event=None)
        if not claimed.url:
            return Result(event=DeliveryEvent.PARK, message="its trigger has no callbackUrl any more")
        try:
            answered = self._post(claimed)
        except (Refused, NotSent) as error:
            return Result(event=None) if self._stopping.is_set() else self._failed(claimed, None, str(error))
        except KeyRingError:
            return Result(event=DeliveryEvent.PARK, message="the server cannot open the secret: rotate it")
        if 200 <= answered < 300:
            return Result(event=DeliveryEvent.DELIVER, answered=answered)
        redirect = "; redirects are not followed" if 300 <= answered < 400 else ""
        return self._failed(claimed, answered, f"the receiver answered {answered}{redirect}")

    def _post(self, claimed: Claimed) -> int:
        """The status of the answer. While a secret is rotated, who refuses the new one is shown the older one."""
        tools = self._tools
        told = Told(execution=claimed.execution_id, status=claimed.status, code=claimed.code, stats=claimed.stats)
        at = int(tools.clock().timestamp())
        data = webhook.body(told, at)
        secret = tools.keyring.open(claimed.secret_sealed, secret_about(claimed.key))
        answered = tools.client.post(claimed.url, data, webhook.headers(data, secret, at))
        if not claimed.older_sealed or answered < 400:
            return answered
        older = tools.keyring.open(claimed.older_sealed, older_about(claimed.key))
        return tools.client.post(claimed.url, data, webhook.headers(data, older, at))

    def _failed(self, claimed: Claimed, answered: int | None, message: str) -> Result:
        tries = claimed.tries + 1
        if tries > claimed.retries:
            return Result(event=DeliveryEvent.PARK, answered=answered, message=message)
        due_at = self._tools.clock() + pause(tries, self._tools.jitter())
        return Result(event=DeliveryEvent.RETRY, due_at=due_at, answered=answered, message=message)


def _seconds_to(places: Sequence[Place], now: datetime) -> float:
    due = next_due(places, now)
    return _LOOK_EVERY_S if due is None else min(_LOOK_EVERY_S, (due - now).total_seconds())


def _tell(claimed: Claimed, result: Result) -> None:
    facts = {"execution": claimed.execution_id, "receiver": claimed.receiver, "tries": claimed.tries + 1}
    match result.event:
        case DeliveryEvent.DELIVER:
            _LOG.info("callback delivered", answered=result.answered, **facts)
        case DeliveryEvent.PARK:
            _LOG.warning("callback parked", reason=result.message, **facts)
        case DeliveryEvent.RETRY:
            _LOG.info("callback not delivered yet", reason=result.message, **facts)
        case _:
            _LOG.debug("callback let go", **facts)
