"""What earlier attempts of jobs computed."""

from __future__ import annotations

from alembic import op

from biosegment.jobs.tables import extend_job_tables_v3

revision = "0011"
down_revision = "0010"


def upgrade() -> None:
    extend_job_tables_v3(op)
