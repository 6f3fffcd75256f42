"""Why the last attempt to serve a request failed."""

from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op

revision: str = "0004"
down_revision: str | None = "0003"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None


def upgrade() -> None:
    op.add_column("requests", sa.Column("error", sa.Text(), nullable=True))


def downgrade() -> None:
    op.drop_column("requests", "error")
