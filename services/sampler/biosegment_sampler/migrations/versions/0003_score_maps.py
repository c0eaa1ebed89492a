"""What the passes varied over which a score map was computed, and how coarse the map behind a sample is."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    """Add the columns; of older maps and samples it is not known."""
    op.add_column("score_layers", sa.Column("passes", sa.String(16), nullable=False, server_default=""))
    op.add_column(
        "samples", sa.Column("score_downsampling", sa.JSON, nullable=False, server_default="[1, 1, 1]")
    )
