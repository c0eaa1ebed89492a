"""Ids of deleted projects."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    op.create_table(
        "deleted_projects",
        sa.Column("id", sa.String(63), primary_key=True),
        sa.Column("delete_time_us", sa.BigInteger, nullable=False),
    )
