"""What requests of a batch have in common as columns, and the search's value under its name."""

from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op

revision: str = "0003"
down_revision: str | None = "0002"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None

# SQLite copies a table to change it, and forgets its checks.
CHECKS = (
    sa.CheckConstraint("state IN ('waiting', 'leased', 'answered', 'applied')", name="ck_requests_state"),
    sa.UniqueConstraint("tree_id", "number"),
)


def _on_sqlite() -> bool:
    return op.get_bind().dialect.name == "sqlite"


def upgrade() -> None:
    op.alter_column("nodes", "value", new_column_name="search_value")
    op.add_column("requests", sa.Column("checkpoint_id", sa.Integer(), nullable=True))
    op.add_column("requests", sa.Column("generation", sa.String(), nullable=True))
    place = "instr(batch_key, ':')" if _on_sqlite() else "position(':' IN batch_key)"
    op.execute(
        f"UPDATE requests SET checkpoint_id = CAST(substr(batch_key, 1, {place} - 1) AS INTEGER), "
        f"generation = substr(batch_key, {place} + 1)"
    )
    with op.batch_alter_table("requests", table_args=CHECKS) as table:
        table.alter_column("checkpoint_id", existing_type=sa.Integer(), nullable=False)
        table.alter_column("generation", existing_type=sa.String(), nullable=False)
        table.drop_column("batch_key")
    waiting = sa.text("state = 'waiting'")
    op.create_index(
        "ix_requests_batch",
        "requests",
        ["checkpoint_id", "generation", "id"],
        unique=False,
        postgresql_where=waiting,
        sqlite_where=waiting,
    )


def downgrade() -> None:
    op.drop_index("ix_requests_batch", table_name="requests")
    op.add_column("requests", sa.Column("batch_key", sa.String(), nullable=True))
    op.execute("UPDATE requests SET batch_key = CAST(checkpoint_id AS VARCHAR) || ':' || generation")
    with op.batch_alter_table("requests", table_args=CHECKS) as table:
        table.alter_column("batch_key", existing_type=sa.String(), nullable=False)
        table.drop_column("checkpoint_id")
        table.drop_column("generation")
    op.alter_column("nodes", "search_value", new_column_name="value")
