from pathlib import Path

from sqlalchemy import Connection, func, select
from sqlalchemy.engine.interfaces import CacheStats

from tidemill.store import schema
from tidemill.store.database import Database


def cache_hit(connection: Connection) -> CacheStats:
    """How a statement that nothing but these tests asks for was come by."""
    query = select(func.count(), func.min(schema.job.c.name)).where(schema.job.c.name == "compiled once")
    return connection.execute(query).context.cache_hit


def test_what_one_database_has_compiled_no_other_compiles_again_and_no_reader(tmp_path: Path) -> None:
    first = Database(tmp_path / "first.db")
    assert first.write(cache_hit) is CacheStats.CACHE_MISS
    assert first.read(cache_hit) is CacheStats.CACHE_HIT
    first.close()
    second = Database(tmp_path / "second.db")
    assert second.write(cache_hit) is CacheStats.CACHE_HIT
    second.close()
