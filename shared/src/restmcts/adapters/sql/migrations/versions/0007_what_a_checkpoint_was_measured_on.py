"""What a checkpoint was measured on, and what that came to."""

from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op

revision: str = "0007"
down_revision: str | None = "0006"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None


def upgrade() -> None:
    op.add_column("checkpoints", sa.Column("benches", sa.JSON(), server_default="{}", nullable=False))


def downgrade() -> None:
    op.drop_column("checkpoints", "benches")
