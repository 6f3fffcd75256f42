"""Where the nodes and requests of a run's trees are, if they are in the store; of runs that are
there, in the database.
"""

from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op

revision: str = "0013"
down_revision: str | None = "0012"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None


def upgrade() -> None:
    op.add_column("runs", sa.Column("trees_in_store", sa.JSON(), nullable=True))


def downgrade() -> None:
    op.drop_column("runs", "trees_in_store")
