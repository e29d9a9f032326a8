"""Brings a database up to date with the tables of this version, forward only."""

from functools import cache
from pathlib import Path
from typing import Final

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Engine

_SCRIPTS: Final = Path(__file__).parent / "migrations"


def config(engine: Engine) -> Config:
    """Alembic's configuration for ``engine``; ``env.py`` takes the engine from its attributes."""
    found = Config()
    found.set_main_option("script_location", str(_SCRIPTS))
    found.attributes["engine"] = engine
    return found


def upgrade(engine: Engine) -> None:
    """Run every migration that has not run yet. Idempotent; nothing but a look where all have."""
    with engine.connect() as connection:
        newest = MigrationContext.configure(connection).get_current_revision()
    if newest != _head():
        command.upgrade(config(engine), "head")


@cache
def _head() -> str | None:
    """The last migration there is: to know it takes loading all of them."""
    return ScriptDirectory(str(_SCRIPTS)).get_current_head()
