"""Models and jobs."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from biosegment.jobs.tables import create_job_tables_v1

revision = "0001"
down_revision = None


def upgrade() -> None:
    op.create_table(
        "models",
        sa.Column("model_id", sa.String(63), primary_key=True),
        sa.Column("project_id", sa.String(63), nullable=False),
        sa.Column("version", sa.Integer, nullable=False),
        sa.Column("display_name", sa.String(200), nullable=False),
        sa.Column("parent", sa.String(63), nullable=False),
        sa.Column("network", sa.String(100), nullable=False),
        sa.Column("classes", sa.JSON, nullable=False),
        sa.Column("working_resolution_nm", sa.Float, nullable=False),
        sa.Column("annotations", sa.JSON, nullable=False),
        sa.Column("config", sa.JSON, nullable=False),
        sa.Column("metrics", sa.JSON, nullable=False),
        sa.Column("job", sa.String(100), nullable=False),
        sa.Column("author", sa.String(200), nullable=False),
        sa.Column("create_us", sa.BigInteger, nullable=False),
        sa.Column("weights_sha256", sa.String(64), nullable=False),
        sa.Column("data_license", sa.String(1000), nullable=False),
        sa.Column("deleted", sa.Boolean, nullable=False),
        sa.Column("remarks", sa.JSON, nullable=False),
        sa.UniqueConstraint("project_id", "version", name="models_version"),
    )
    op.create_index("models_job", "models", ["job"])
    create_job_tables_v1(op)
