"""builds that fetch an image of a registry"""

import sqlalchemy as sa
from alembic import op

revision = "0012"
down_revision = "0014"
branch_labels = None
depends_on = None


def upgrade() -> None:
    for name in ("image", "credentials_sealed"):
        op.add_column("build", sa.Column(name, sa.Text(), server_default="", nullable=False))
