"""Which samples count where the shares of strategies say what chooses the next one."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"


def upgrade() -> None:
    """Add the column; samples of before count, except those that annotators chose."""
    op.add_column("samples", sa.Column("dealt", sa.Boolean, nullable=False, server_default=sa.true()))
    op.execute(sa.text("UPDATE samples SET dealt = false WHERE strategy = 'chosen'"))
