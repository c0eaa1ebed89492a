"""Leases that somebody took over."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0010"
down_revision = "0009"


def upgrade() -> None:
    op.create_table(
        "ended_leases",
        sa.Column(
            "project_id", sa.String(63), sa.ForeignKey("projects.id", ondelete="CASCADE"), primary_key=True
        ),
        sa.Column("sample", sa.String(200), primary_key=True),
        sa.Column("term", sa.BigInteger, nullable=False),
        sa.Column("successor", sa.String(200), nullable=False),
        sa.Column("successor_name", sa.String(200), nullable=False),
    )
