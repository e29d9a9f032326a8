"""Brings a database up to date with the tables of this version, forward only."""

from pathlib import Path
from typing import Final

from alembic import command
from alembic.config import Config
from sqlalchemy import Engine

_SCRIPTS: Final = Path(__file__).parent / "migrations"


def config(engine: Engine) -> Config:
    """Alembic's configuration for ``engine``; ``env.py`` takes the engine from its attributes."""
    found = Config()
    found.set_main_option("script_location", str(_SCRIPTS))
    found.attributes["engine"] = engine
    return found


def upgrade(engine: Engine) -> None:
    """Run every migration that has not run yet. Idempotent."""
    command.upgrade(config(engine), "head")
