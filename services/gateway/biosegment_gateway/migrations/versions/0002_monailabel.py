"""The MONAI Label API: sizes of parts, images, labels by tag, samples, sessions, tasks."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    op.create_table(
        "monailabel_projects",
        sa.Column("project_id", sa.String(63), primary_key=True),
        sa.Column("part_z", sa.Integer, nullable=False),
        sa.Column("part_y", sa.Integer, nullable=False),
        sa.Column("part_x", sa.Integer, nullable=False),
    )
    op.create_table(
        "monailabel_images",
        sa.Column("project_id", sa.String(63), primary_key=True),
        sa.Column("image_id", sa.String(200), primary_key=True),
        sa.Column("uploaded_volume_id", sa.String(63), nullable=False),
        sa.Column("geometry", sa.JSON),
        sa.Column("info", sa.JSON, nullable=False),
    )
    op.create_table(
        "monailabel_labels",
        sa.Column("project_id", sa.String(63), primary_key=True),
        sa.Column("image_id", sa.String(200), primary_key=True),
        sa.Column("tag", sa.String(100), primary_key=True),
        sa.Column("extension", sa.String(10), nullable=False),
        sa.Column("info", sa.JSON, nullable=False),
        sa.Column("author", sa.String(63), nullable=False),
        sa.Column("update_time_us", sa.BigInteger, nullable=False),
        sa.Column("names", sa.JSON, nullable=False),
        sa.Column("labels", sa.LargeBinary, nullable=False),
        sa.Column("job", sa.String(100), nullable=False),
        sa.Column("layer", sa.String(400), nullable=False),
        sa.Column("annotations", sa.JSON, nullable=False),
    )
    op.create_table(
        "monailabel_samples",
        sa.Column("project_id", sa.String(63), primary_key=True),
        sa.Column("image_id", sa.String(200), primary_key=True),
        sa.Column("user_id", sa.String(63), nullable=False),
        sa.Column("client_id", sa.String(200), nullable=False),
        sa.Column("sample", sa.String(200), nullable=False),
        sa.Column("lease_token", sa.Text, nullable=False),
        sa.Column("serve_time_us", sa.BigInteger, nullable=False),
        sa.Column("expire_time_us", sa.BigInteger, nullable=False),
    )
    op.create_table(
        "monailabel_sessions",
        sa.Column("session_id", sa.String(36), primary_key=True),
        sa.Column("project_id", sa.String(63), nullable=False),
        sa.Column("user_id", sa.String(63), nullable=False),
        sa.Column("name", sa.String(200), nullable=False),
        sa.Column("size_bytes", sa.BigInteger, nullable=False),
        sa.Column("expiry_s", sa.BigInteger, nullable=False),
        sa.Column("create_time_us", sa.BigInteger, nullable=False),
        sa.Column("access_time_us", sa.BigInteger, nullable=False),
    )
    op.create_table(
        "monailabel_tasks",
        sa.Column("task_id", sa.String(36), primary_key=True),
        sa.Column("project_id", sa.String(63), nullable=False),
        sa.Column("kind", sa.String(20), nullable=False),
        sa.Column("request", sa.JSON, nullable=False),
        sa.Column("jobs", sa.JSON, nullable=False),
        sa.Column("user_id", sa.String(63), nullable=False),
        sa.Column("start_time_us", sa.BigInteger, nullable=False),
    )
    op.create_index("ix_monailabel_tasks_project_id", "monailabel_tasks", ["project_id"])
