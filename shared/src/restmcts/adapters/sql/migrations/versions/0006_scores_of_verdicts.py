"""How far a solution is right, what that rests on, and why."""

from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op

revision: str = "0006"
down_revision: str | None = "0005"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None


def upgrade() -> None:
    op.add_column("nodes", sa.Column("score", sa.Float(), nullable=True))
    op.add_column("nodes", sa.Column("verdict_source", sa.String(), nullable=True))
    op.add_column("nodes", sa.Column("reason", sa.Text(), nullable=True))


def downgrade() -> None:
    for name in ("reason", "verdict_source", "score"):
        op.drop_column("nodes", name)
