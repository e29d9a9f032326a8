"""accounts, memberships, service accounts; API keys belong to one of them"""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    with op.batch_alter_table("workspace") as workspace:
        workspace.add_column(sa.Column("labels", sa.JSON(), server_default="{}", nullable=False))
        workspace.add_column(sa.Column("created_by", sa.Text(), server_default="", nullable=False))
        workspace.add_column(sa.Column("updated_at", sa.BigInteger(), nullable=True))
        workspace.add_column(sa.Column("updated_by", sa.Text(), server_default="", nullable=False))
        workspace.add_column(sa.Column("deleted_at", sa.BigInteger(), nullable=True))
    _accounts()
    _service_accounts()
    _keys()


def _accounts() -> None:
    op.create_table(
        "account",
        sa.Column("id", sa.String(length=64), nullable=False),
        sa.Column("email", sa.String(length=254), nullable=False),
        sa.Column("given_name", sa.Text(), server_default="", nullable=False),
        sa.Column("family_name", sa.Text(), server_default="", nullable=False),
        sa.Column("password", sa.Text(), server_default="", nullable=False),
        sa.Column("issuer", sa.Text(), server_default="", nullable=False),
        sa.Column("subject", sa.Text(), server_default="", nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("updated_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("email"),
    )
    vouched = sa.text("issuer != ''")
    op.create_index(
        "account_subject",
        "account",
        ["issuer", "subject"],
        unique=True,
        sqlite_where=vouched,
        postgresql_where=vouched,
    )
    op.create_table(
        "membership",
        sa.Column("account", sa.String(length=64), nullable=False),
        sa.Column("workspace", sa.String(length=64), nullable=False),
        sa.Column("role", sa.String(length=16), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.CheckConstraint("role IN ('admin', 'member')", name="membership_role"),
        sa.PrimaryKeyConstraint("account", "workspace"),
        sqlite_with_rowid=False,
    )
    op.create_index("membership_workspace", "membership", ["workspace", "account"])


def _service_accounts() -> None:
    op.create_table(
        "service_account",
        sa.Column("client_id", sa.String(length=64), nullable=False),
        sa.Column("workspace", sa.String(length=64), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("description", sa.Text(), nullable=False),
        sa.Column("role", sa.String(length=16), nullable=False),
        sa.Column("secret_digest", sa.String(length=64), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("created_by", sa.Text(), nullable=False),
        sa.Column("updated_at", sa.BigInteger(), nullable=False),
        sa.Column("updated_by", sa.Text(), nullable=False),
        sa.CheckConstraint("role IN ('admin', 'member')", name="service_account_role"),
        sa.PrimaryKeyConstraint("client_id"),
    )
    op.create_index("service_account_workspace", "service_account", ["workspace", "created_at"])


def _keys() -> None:
    """Each key that there is gets an account of its own, which reaches what the key has reached."""
    op.create_table(
        "new_api_key",
        sa.Column("digest", sa.String(length=64), nullable=False),
        sa.Column("id", sa.String(length=64), nullable=False),
        sa.Column("owner_kind", sa.String(length=16), nullable=False),
        sa.Column("owner", sa.String(length=64), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("prefix", sa.String(length=16), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("created_by", sa.Text(), nullable=False),
        sa.Column("expires_at", sa.BigInteger(), nullable=True),
        sa.Column("expires_in", sa.Text(), nullable=False),
        sa.Column("last_used_at", sa.BigInteger(), nullable=True),
        sa.CheckConstraint("owner_kind IN ('user', 'service_account')", name="api_key_owner"),
        sa.PrimaryKeyConstraint("digest"),
        sa.UniqueConstraint("id"),
    )
    op.execute(
        "INSERT INTO account (id, email, created_at, updated_at)"
        " SELECT 'user-' || id, name || '-' || id || '@' || workspace, created_at, created_at FROM api_key"
    )
    op.execute(
        "INSERT INTO membership (account, workspace, role, created_at)"
        " SELECT 'user-' || id, workspace, role, created_at FROM api_key"
    )
    op.execute(
        "INSERT INTO new_api_key"
        " (digest, id, owner_kind, owner, name, prefix, created_at, created_by, expires_at, expires_in)"
        " SELECT digest, id, 'user', 'user-' || id, name, prefix, created_at, 'user-' || id, expires_at, ''"
        " FROM api_key"
    )
    op.drop_table("api_key")
    op.rename_table("new_api_key", "api_key")
    op.create_index("api_key_owner_keys", "api_key", ["owner_kind", "owner", "created_at"])
