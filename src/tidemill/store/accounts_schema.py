"""The tables of tenants and of who reaches them."""

from sqlalchemy import JSON, CheckConstraint, Column, Index, Integer, String, Table, Text, text

from tidemill.store.columns import Instant, metadata

workspace = Table(
    "workspace",
    metadata,
    Column("name", String(64), primary_key=True),
    Column("display_name", Text, nullable=False),
    Column("created_at", Instant, nullable=False),
    Column("max_parallel_executions", Integer, nullable=False),
    Column("max_concurrent_tasks", Integer),
    Column("jobs_total", Integer, nullable=False, server_default="0"),
    Column("labels", JSON, nullable=False, server_default="{}"),
    Column("created_by", Text, nullable=False, server_default=""),
    Column("updated_at", Instant),
    Column("updated_by", Text, nullable=False, server_default=""),
    Column("deleted_at", Instant),  # the name stays taken: history of its jobs is still kept under it
)

account = Table(
    "account",
    metadata,
    Column("id", String(64), primary_key=True),
    Column("email", String(254), nullable=False, unique=True),  # in lower case
    Column("given_name", Text, nullable=False, server_default=""),
    Column("family_name", Text, nullable=False, server_default=""),
    Column("password", Text, nullable=False, server_default=""),  # Argon2id, PHC text; "" when there is none
    Column("issuer", Text, nullable=False, server_default=""),  # of the OpenID provider that vouches for it, and
    Column("subject", Text, nullable=False, server_default=""),  # what that calls it
    Column("created_at", Instant, nullable=False),
    Column("updated_at", Instant, nullable=False),
    Index(
        "account_subject",
        "issuer",
        "subject",
        unique=True,
        sqlite_where=text("issuer != ''"),
        postgresql_where=text("issuer != ''"),
    ),
)
"""A person: a user of the words of the API, which is a reserved word of SQL."""

membership = Table(
    "membership",
    metadata,
    Column("account", String(64), primary_key=True),
    Column("workspace", String(64), primary_key=True),
    Column("role", String(16), nullable=False),
    Column("created_at", Instant, nullable=False),
    CheckConstraint("role IN ('admin', 'member')", name="membership_role"),
    Index("membership_workspace", "workspace", "account"),
    sqlite_with_rowid=False,
)

service_account = Table(
    "service_account",
    metadata,
    Column("client_id", String(64), primary_key=True),
    Column("workspace", String(64), nullable=False),
    Column("name", Text, nullable=False),
    Column("description", Text, nullable=False),
    Column("role", String(16), nullable=False),
    Column("secret_digest", String(64), nullable=False),  # HMAC-SHA256 under the pepper, hex
    Column("created_at", Instant, nullable=False),
    Column("created_by", Text, nullable=False),
    Column("updated_at", Instant, nullable=False),
    Column("updated_by", Text, nullable=False),
    CheckConstraint("role IN ('admin', 'member')", name="service_account_role"),
    Index("service_account_workspace", "workspace", "created_at"),
)

api_key = Table(
    "api_key",
    metadata,
    Column("digest", String(64), primary_key=True),  # HMAC-SHA256 under the pepper, hex
    Column("id", String(64), nullable=False, unique=True),
    Column("owner_kind", String(16), nullable=False),
    Column("owner", String(64), nullable=False),  # an account's id or a service account's client id
    Column("name", Text, nullable=False),
    Column("prefix", String(16), nullable=False),
    Column("created_at", Instant, nullable=False),
    Column("created_by", Text, nullable=False),
    Column("expires_at", Instant),
    Column("expires_in", Text, nullable=False),  # as it was asked for
    Column("last_used_at", Instant),
    CheckConstraint("owner_kind IN ('user', 'service_account')", name="api_key_owner"),
    Index("api_key_owner_keys", "owner_kind", "owner", "created_at"),
)
