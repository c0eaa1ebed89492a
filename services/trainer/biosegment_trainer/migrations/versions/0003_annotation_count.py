"""How many annotations a model was trained on, so that a list of models need not read their names."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    op.add_column("models", sa.Column("annotation_count", sa.Integer, nullable=False, server_default="0"))
    op.execute("UPDATE models SET annotation_count = json_array_length(annotations)")
