"""What blocks a run, how often a message failed, and what a request may cost."""

from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op

revision: str = "0005"
down_revision: str | None = "0004"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None


def upgrade() -> None:
    op.create_table(
        "blocks",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("run_id", sa.Integer(), nullable=False),
        sa.Column("need", sa.String(), nullable=False),
        sa.Column("need_id", sa.Integer(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("num_tries", sa.Integer(), nullable=False),
        sa.Column("since", sa.DateTime(timezone=True), nullable=False),
        sa.Column("retry_at", sa.DateTime(timezone=True), nullable=False),
        sa.CheckConstraint("need IN ('checkpoint', 'phase', 'run')", name="ck_blocks_need"),
        sa.ForeignKeyConstraint(["run_id"], ["runs.id"], ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("need", "need_id"),
    )
    op.create_index(op.f("ix_blocks_run_id"), "blocks", ["run_id"], unique=False)
    op.add_column("dead_letters", sa.Column("digest", sa.String(), nullable=True))
    op.add_column("dead_letters", sa.Column("num_times", sa.Integer(), server_default="1", nullable=False))
    op.add_column("dead_letters", sa.Column("last_at", sa.DateTime(timezone=True), nullable=True))
    op.create_index("ix_dead_letters_digest", "dead_letters", ["digest"], unique=True)
    op.add_column("requests", sa.Column("max_tokens", sa.Integer(), nullable=True))


def downgrade() -> None:
    op.drop_column("requests", "max_tokens")
    op.drop_index("ix_dead_letters_digest", table_name="dead_letters")
    for name in ("last_at", "num_times", "digest"):
        op.drop_column("dead_letters", name)
    op.drop_index(op.f("ix_blocks_run_id"), table_name="blocks")
    op.drop_table("blocks")
