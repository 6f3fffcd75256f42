"""How Alembic runs the migrations: on the connection that restmcts.adapters.sql.migrate gives,
else on RESTMCTS_DATABASE_URL.
"""

import os
from typing import Literal

import restmcts.adapters.sql.project_tables
import restmcts.adapters.sql.stack_tables  # noqa: F401  (fills SQLModel.metadata)
from alembic import context
from sqlalchemy import create_engine
from sqlmodel import AutoString, SQLModel


def render_item(kind: str, item: object, _: object) -> str | Literal[False]:
    """Return how a new migration writes an item: SQLModel's string type as SQLAlchemy's, so
    that it need not import SQLModel.
    """
    return "sa.String()" if kind == "type" and isinstance(item, AutoString) else False


connection = context.config.attributes.get("connection")
if connection is None:
    connection = create_engine(os.environ["RESTMCTS_DATABASE_URL"]).connect()
context.configure(connection=connection, target_metadata=SQLModel.metadata, render_item=render_item)
with context.begin_transaction():
    context.run_migrations()
