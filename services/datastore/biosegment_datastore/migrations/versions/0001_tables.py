"""The tables of the first release."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from biosegment.jobs.tables import create_job_tables_v1

revision = "0001"
down_revision = None


def upgrade() -> None:
    create_job_tables_v1(op)
    _create_projects()
    _create_volumes()
    _create_annotations()
    _create_transfers()


def _create_projects() -> None:
    op.create_table(
        "projects",
        sa.Column("id", sa.String(63), primary_key=True),
        sa.Column("display_name", sa.Text, nullable=False),
        sa.Column("description", sa.Text, nullable=False),
        sa.Column("classes", sa.JSON, nullable=False),
        sa.Column("retired_values", sa.JSON, nullable=False),
        sa.Column("working_resolution_nm", sa.Float(53), nullable=False),
        sa.Column("storage_key", sa.String(200), nullable=False),
        sa.Column("create_time_us", sa.BigInteger, nullable=False),
        sa.Column("update_time_us", sa.BigInteger, nullable=False),
        sa.Column("version", sa.Integer, nullable=False),
        sa.Column("last_sequence", sa.BigInteger, nullable=False),
    )
    op.create_table(
        "members",
        _project_id(),
        sa.Column("user_id", sa.String(200), primary_key=True),
        sa.Column("role", sa.String(20), nullable=False),
        sa.Column("create_time_us", sa.BigInteger, nullable=False),
    )
    op.create_table(
        "requests",
        sa.Column("scope", sa.String(220), primary_key=True),
        sa.Column("request_id", sa.String(100), primary_key=True),
        sa.Column("digest", sa.String(64), nullable=False),
        sa.Column("resource", sa.String(400), nullable=False),
    )


def _create_volumes() -> None:
    op.create_table(
        "volumes",
        _project_id(),
        sa.Column("id", sa.String(63), primary_key=True),
        sa.Column("display_name", sa.Text, nullable=False),
        sa.Column("shape", sa.JSON, nullable=False),
        sa.Column("data_type", sa.String(20), nullable=False),
        sa.Column("voxel_size_nm", sa.JSON, nullable=False),
        sa.Column("levels", sa.JSON, nullable=False),
        sa.Column("key", sa.String(400), nullable=False),
        sa.Column("source", sa.Text, nullable=False),
        sa.Column("display_window", sa.JSON, nullable=False),
        sa.Column("slice_mean", sa.JSON, nullable=False),
        sa.Column("slice_std", sa.JSON, nullable=False),
        sa.Column("creator", sa.String(200), nullable=False),
        sa.Column("create_time_us", sa.BigInteger, nullable=False),
        sa.Column("update_time_us", sa.BigInteger, nullable=False),
        sa.Column("version", sa.Integer, nullable=False),
    )
    op.create_table(
        "layers",
        sa.Column("project_id", sa.String(63), primary_key=True),
        sa.Column("volume_id", sa.String(63), primary_key=True),
        sa.Column("id", sa.String(63), primary_key=True),
        sa.Column("display_name", sa.Text, nullable=False),
        sa.Column("kind", sa.String(20), nullable=False),
        sa.Column("state", sa.String(20), nullable=False),
        sa.Column("data_type", sa.String(20), nullable=False),
        sa.Column("downsampling", sa.JSON, nullable=False),
        sa.Column("shape", sa.JSON, nullable=False),
        sa.Column("class_value", sa.Integer, nullable=False),
        sa.Column("measure", sa.String(200), nullable=False),
        sa.Column("model", sa.String(200), nullable=False),
        sa.Column("job", sa.String(200), nullable=False),
        sa.Column("region", sa.JSON),
        sa.Column("chunk", sa.JSON, nullable=False),
        sa.Column("shard", sa.JSON, nullable=False),
        sa.Column("attempt", sa.Integer, nullable=False),
        sa.Column("storage_key", sa.String(400), nullable=False),
        sa.Column("creator", sa.String(200), nullable=False),
        sa.Column("create_time_us", sa.BigInteger, nullable=False),
        sa.Column("commit_time_us", sa.BigInteger, nullable=False),
        _of_volume(),
    )


def _create_annotations() -> None:
    op.create_table(
        "annotations",
        sa.Column("project_id", sa.String(63), primary_key=True),
        sa.Column("id", sa.String(63), primary_key=True),
        sa.Column("volume_id", sa.String(63), nullable=False),
        sa.Column("sequence", sa.BigInteger, nullable=False),
        *(
            sa.Column(f"{edge}_{axis}", sa.BigInteger, nullable=False)
            for edge in ("start", "stop")
            for axis in "zyx"
        ),
        sa.Column("kind", sa.String(20), nullable=False),
        sa.Column("class_scope", sa.JSON, nullable=False),
        sa.Column("author", sa.String(200), nullable=False),
        sa.Column("create_time_us", sa.BigInteger, nullable=False),
        sa.Column("sample", sa.String(200), nullable=False),
        sa.Column("strategy", sa.String(200), nullable=False),
        sa.Column("model", sa.String(200), nullable=False),
        sa.Column("work_time_s", sa.Float(53), nullable=False),
        sa.Column("state", sa.String(20), nullable=False),
        sa.Column("labels_sha256", sa.String(64), nullable=False),
        sa.Column("review_comment", sa.Text, nullable=False),
        sa.Column("voxel_counts", sa.JSON, nullable=False),
        sa.Column("comment", sa.Text, nullable=False),
        sa.Column("key", sa.String(400), nullable=False),
        _of_volume(),
    )
    op.create_index("annotations_by_sequence", "annotations", ["project_id", "sequence"], unique=True)
    op.create_index("annotations_by_volume", "annotations", ["project_id", "volume_id", "sequence"])
    op.create_table(
        "annotation_records",
        sa.Column("project_id", sa.String(63), primary_key=True),
        sa.Column("sequence", sa.BigInteger, primary_key=True, autoincrement=False),
        sa.Column("volume_id", sa.String(63), nullable=False),
        sa.Column("annotation_id", sa.String(63), nullable=False),
        sa.Column("action", sa.String(20), nullable=False),
        sa.Column("accepted", sa.Boolean, nullable=False),
        sa.Column("comment", sa.Text, nullable=False),
        sa.Column("author", sa.String(200), nullable=False),
        sa.Column("create_time_us", sa.BigInteger, nullable=False),
        _of_volume(),
    )
    op.create_index(
        "annotation_records_by_volume", "annotation_records", ["project_id", "volume_id", "sequence"]
    )
    op.create_table(
        "projections",
        sa.Column("project_id", sa.String(63), primary_key=True),
        sa.Column("volume_id", sa.String(63), primary_key=True),
        sa.Column("wanted_sequence", sa.BigInteger, nullable=False),
        sa.Column("applied_sequence", sa.BigInteger, nullable=False),
        sa.Column("owner", sa.String(63), nullable=False),
        sa.Column("lease_us", sa.BigInteger, nullable=False),
        _of_volume(),
    )


def _create_transfers() -> None:
    op.create_table(
        "uploads",
        _project_id(),
        sa.Column("id", sa.String(63), primary_key=True),
        sa.Column("file_name", sa.String(200), nullable=False),
        sa.Column("size_bytes", sa.BigInteger, nullable=False),
        sa.Column("received_bytes", sa.BigInteger, nullable=False),
        sa.Column("expire_time_us", sa.BigInteger, nullable=False),
        sa.Column("key", sa.String(400), nullable=False),
        sa.Column("creator", sa.String(200), nullable=False),
    )
    op.create_table(
        "artifacts",
        _project_id(),
        sa.Column("id", sa.String(63), primary_key=True),
        sa.Column("file_name", sa.String(200), nullable=False),
        sa.Column("size_bytes", sa.BigInteger, nullable=False),
        sa.Column("sha256", sa.String(64), nullable=False),
        sa.Column("media_type", sa.String(100), nullable=False),
        sa.Column("key", sa.String(400), nullable=False),
        sa.Column("create_time_us", sa.BigInteger, nullable=False),
    )
    op.create_table(
        "garbage",
        sa.Column("prefix", sa.String(400), primary_key=True),
        sa.Column("due_us", sa.BigInteger, nullable=False),
        sa.Column("owner", sa.String(100), nullable=False),
    )


def _project_id() -> sa.Column[str]:
    return sa.Column(
        "project_id", sa.String(63), sa.ForeignKey("projects.id", ondelete="CASCADE"), primary_key=True
    )


def _of_volume() -> sa.ForeignKeyConstraint:
    return sa.ForeignKeyConstraint(
        ["project_id", "volume_id"], ["volumes.project_id", "volumes.id"], ondelete="CASCADE"
    )
