"""What SQLAlchemy has compiled, kept once for the process: readers, the writer and every database share it."""

from functools import cache
from typing import Final

from sqlalchemy import Engine, create_engine
from sqlalchemy.engine.interfaces import CompiledCacheType, Dialect
from sqlalchemy.util import LRUCache

# more than there are shapes of statements in the store, so that none is pushed out
_KEPT: Final = 2_000
_COMPILED: Final[CompiledCacheType] = LRUCache(_KEPT)


def shared(engine: Engine) -> Engine:
    """``engine``, of SQLite, such that what another engine has compiled it need not compile again.

    Compiling is most of what the first run of a statement costs, and an engine alone forgets with its database.
    """
    # a dialect is part of the key of what it has compiled
    engine.dialect = _dialect()
    engine.update_execution_options(compiled_cache=_COMPILED)
    return engine


@cache
def _dialect() -> Dialect:
    """One that has seen the SQLite of this process, as the first connection of an engine makes it."""
    engine = create_engine("sqlite://")
    with engine.connect():
        return engine.dialect
