"""Token budgets of runs, and what was generated of them."""

from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op

revision: str = "0002"
down_revision: str | None = "0001"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None


def upgrade() -> None:
    op.add_column("runs", sa.Column("max_tokens", sa.BigInteger(), nullable=True))
    op.create_table(
        "token_counts",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), autoincrement=True, nullable=False),
        sa.Column("run_id", sa.Integer(), nullable=False),
        sa.Column("tokens", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index(op.f("ix_token_counts_run_id"), "token_counts", ["run_id"], unique=False)


def downgrade() -> None:
    op.drop_index(op.f("ix_token_counts_run_id"), table_name="token_counts")
    op.drop_table("token_counts")
    op.drop_column("runs", "max_tokens")
