"""What people say of runs: tags, and that one is archived."""

from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op

revision: str = "0009"
down_revision: str | None = "0008"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None


def upgrade() -> None:
    op.add_column("runs", sa.Column("archived_at", sa.DateTime(timezone=True), nullable=True))
    op.add_column("runs", sa.Column("tags", sa.JSON(), server_default="[]", nullable=False))


def downgrade() -> None:
    op.drop_column("runs", "tags")
    op.drop_column("runs", "archived_at")
