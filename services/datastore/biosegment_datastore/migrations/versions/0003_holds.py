"""Holds, under which nothing is removed from the object storage."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    op.create_table(
        "holds",
        sa.Column("id", sa.String(63), primary_key=True),
        sa.Column("expire_time_us", sa.BigInteger, nullable=False),
    )
