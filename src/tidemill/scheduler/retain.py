"""What is forgotten: deploys whose bytes never came, inputs and selections that nobody refers to."""

from datetime import datetime, timedelta
from typing import Final

from tidemill.model.ids import oldest_key
from tidemill.scheduler.policy import SchedulerPolicy
from tidemill.store import deploys, inputs, ranges
from tidemill.store.database import Database

SWEPT_AT_ONCE: Final = 1_000


def retain(database: Database, policy: SchedulerPolicy, now: datetime) -> None:
    """One sweep: at most 1,000 rows of inputs and of ranges, so that no writer waits long behind it."""
    database.write(lambda connection: deploys.drop_expired(connection, now), urgent=True, wakes=False)
    older_than = now - timedelta(seconds=policy.unused_inputs_s)
    database.write(lambda connection: inputs.sweep(connection, older_than, SWEPT_AT_ONCE), urgent=True, wakes=False)
    oldest = oldest_key(int(older_than.timestamp() * 1000))
    database.write(lambda connection: ranges.sweep(connection, oldest, SWEPT_AT_ONCE), urgent=True, wakes=False)
