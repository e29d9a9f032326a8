import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from alembic import command
from sqlalchemy import Connection, Engine, create_engine, inspect, select
from sqlalchemy.pool import NullPool

from tidemill.store import migrate, schema, triggers
from tidemill.store.schema import metadata


@pytest.fixture
def migrated(tmp_path: Path) -> Iterator[Engine]:
    engine = create_engine(f"sqlite:///{tmp_path / 'migrated.db'}", poolclass=NullPool)
    migrate.upgrade(engine)
    yield engine
    engine.dispose()


def sql_of(connection: Connection) -> dict[str, str]:
    rows = connection.exec_driver_sql("SELECT name, sql FROM sqlite_master WHERE sql IS NOT NULL")
    # quotes and white space are the generator's taste; the words are the schema
    return {name: "".join(sql.replace('"', "").split()).lower() for name, sql in rows if name != "alembic_version"}


def test_migrations_make_the_tables_that_the_schema_describes(migrated: Engine) -> None:
    command.check(migrate.config(migrated))
    with migrated.connect() as connection:
        assert set(metadata.tables) == set(inspect(connection).get_table_names()) - {"alembic_version"}


def test_checks_partial_indexes_and_rowid_choices_are_the_schemas_too(migrated: Engine, tmp_path: Path) -> None:
    direct = create_engine(f"sqlite:///{tmp_path / 'direct.db'}", poolclass=NullPool)
    metadata.create_all(direct)
    with migrated.connect() as one, direct.connect() as other:
        by_migration, by_schema = sql_of(one), sql_of(other)
    assert set(by_migration) == set(by_schema)
    for name, sql in by_schema.items():
        words = ("check(", "where", "withoutrowid", "unique")
        assert {w: by_migration[name].count(w) for w in words} == {w: sql.count(w) for w in words}, name


def test_running_them_again_changes_nothing(migrated: Engine) -> None:
    with migrated.connect() as connection:
        before = sql_of(connection)
    migrate.upgrade(migrated)
    with migrated.connect() as connection:
        assert sql_of(connection) == before


def test_a_job_that_was_paused_stays_paused_and_keeps_what_is_only_kept(tmp_path: Path) -> None:
    engine = create_engine(f"sqlite:///{tmp_path / 'old.db'}", poolclass=NullPool)
    configuration = migrate.config(engine)
    command.upgrade(configuration, "0001")
    extra = {"spec": {"revision": {"traffic": 0, "stickySessionTtl": 60, "mood": "calm"}, "policies": ["eu"]}}
    with engine.begin() as connection:
        for key, kept in ((1, extra), (2, {})):
            connection.exec_driver_sql(
                "INSERT INTO job (key, workspace, name, state, display_name, external_id, labels, extra,"
                " created_at, created_by, updated_at, updated_by)"
                " VALUES (?, 'main', ?, 'DEPLOYED', '', '', '{}', ?, 0, 'a', 0, 'a')",
                (key, f"job-{key}", json.dumps(kept)),
            )
    migrate.upgrade(engine)
    with engine.connect() as connection:
        rows = connection.exec_driver_sql("SELECT traffic, sticky_ttl_s, canary_revision, extra FROM job ORDER BY key")
        first, second = rows.all()
    engine.dispose()
    assert tuple(first)[:3] == (0, 60, "")
    assert json.loads(first.extra) == {"spec": {"revision": {"mood": "calm"}, "policies": ["eu"]}}
    assert tuple(second) == (100, 0, "", "{}")


def test_triggers_that_were_only_kept_fire_from_the_upgrade_on(tmp_path: Path) -> None:
    engine = create_engine(f"sqlite:///{tmp_path / 'old.db'}", poolclass=NullPool)
    command.upgrade(migrate.config(engine), "0006")
    cron = {
        "id": "t1",
        "type": "cron",
        "enabled": False,
        "configuration": {"schedule": "0 3 * * *", "timezone": "Europe/Paris", "tasks": [{"a": "é"}, {}]},
    }
    called = {"path": "/a%20b/", "authenticationType": "public", "timeout": 60}
    http = {"id": "h", "type": "http", "enabled": True}
    later = {"id": "i", "type": "http-async", "enabled": True, "configuration": called}
    extra = {"spec": {"triggers": [cron, http, later]}}
    with engine.begin() as connection:
        for key, (state, kept) in enumerate((("DEPLOYED", extra), ("TERMINATED", extra), ("DEPLOYED", {}))):
            connection.exec_driver_sql(
                "INSERT INTO job (key, workspace, name, state, display_name, external_id, labels, extra,"
                " created_at, created_by, updated_at, updated_by)"
                " VALUES (?, 'main', ?, ?, '', '', '{}', ?, 0, 'a', 0, 'a')",
                (key, f"job-{key}", state, json.dumps(kept)),
            )
    migrate.upgrade(engine)
    with engine.connect() as connection:
        rows = connection.execute(select(schema.job_trigger).order_by(schema.job_trigger.c.id)).all()
        wanted = [triggers._values(0, one) for one in extra["spec"]["triggers"]]
    engine.dispose()
    unplanned = dict.fromkeys(("input_set", "planned_at", "next_due_at"))
    assert [row._asdict() for row in rows] == sorted(
        ({**one, **unplanned} for one in wanted), key=lambda one: str(one["id"])
    )
    assert [row.path for row in rows] == ["/", "/a b", ""]
