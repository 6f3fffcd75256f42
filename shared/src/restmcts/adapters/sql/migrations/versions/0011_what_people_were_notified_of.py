"""The state of a run that somebody was notified of; of runs that are there, all."""

from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op

revision: str = "0011"
down_revision: str | None = "0010"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None


def upgrade() -> None:
    op.add_column("runs", sa.Column("notified_state", sa.String(), nullable=True))
    op.execute("UPDATE runs SET notified_state = state")


def downgrade() -> None:
    op.drop_column("runs", "notified_state")
