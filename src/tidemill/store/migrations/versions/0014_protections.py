"""what each attempt ran with, and what each node states of its protections"""

import sqlalchemy as sa
from alembic import op

revision = "0014"
down_revision = "0011"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("attempt", sa.Column("protections", sa.BigInteger(), nullable=True))
    op.add_column("node", sa.Column("level", sa.String(length=16), server_default="", nullable=False))
    op.add_column("node", sa.Column("protections", sa.JSON(), server_default="[]", nullable=False))
