"""Pools, samples, annotations as far as the sampler needs them, score layers, receipts."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None


def _texts(*names: str) -> list[sa.Column[str]]:
    return [sa.Column(name, sa.Text, nullable=False) for name in names]


def _integers(*names: str) -> list[sa.Column[int]]:
    return [sa.Column(name, sa.BigInteger, nullable=False) for name in names]


def _floats(*names: str) -> list[sa.Column[float]]:
    return [sa.Column(name, sa.Float(53), nullable=False) for name in names]


_REGION = ("z_start", "y_start", "x_start", "z_stop", "y_stop", "x_stop")


def upgrade() -> None:
    """Create the tables."""
    op.create_table(
        "pools",
        sa.Column("project_id", sa.String(63), primary_key=True),
        sa.Column("settings", sa.JSON, nullable=False),
        *_integers("revision", "watermark", "training_number", "training_sequence", "scoring_number"),
        *_integers("considered_sequence", "rounds"),
        *_texts(
            "nonce", "latest_model", "scored_model", "training_request_id", "training_job", "training_user"
        ),
        *_texts("scoring_request_id", "scoring_job", "scoring_model", "failure", "failed_model"),
        *_floats("last_annotation_at"),
    )
    op.create_table(
        "samples",
        sa.Column("project_id", sa.String(63), primary_key=True),
        sa.Column("sample_id", sa.String(63), primary_key=True),
        sa.Column("volume_id", sa.String(63), nullable=False),
        *_integers(*_REGION, "seed"),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("strategy", sa.String(63), nullable=False),
        sa.Column("rank", sa.Integer, nullable=False),
        *_texts("model", "score_layer", "holder", "annotation", "skip_reason", "notice"),
        *_floats("score", "lease_issued_at", "lease_expires_at", "created_at"),
    )
    op.create_index("samples_by_state", "samples", ["project_id", "state"])
    op.create_table(
        "annotations",
        sa.Column("project_id", sa.String(63), primary_key=True),
        sa.Column("name", sa.String(255), primary_key=True),
        sa.Column("volume_id", sa.String(63), nullable=False),
        *_integers("sequence", *_REGION),
        *_texts("author"),
        sa.Column("sample_id", sa.String(63), nullable=False),
        *_floats("work_time_s", "created_at"),
        sa.Column("voxel_counts", sa.JSON, nullable=False),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("in_latest_model", sa.Boolean, nullable=False),
    )
    op.create_index("annotations_by_sample", "annotations", ["project_id", "sample_id"])
    op.create_table(
        "score_layers",
        sa.Column("project_id", sa.String(63), primary_key=True),
        sa.Column("name", sa.String(255), primary_key=True),
        *_texts("model", "uri"),
        sa.Column("volume_id", sa.String(63), nullable=False),
        sa.Column("measure", sa.String(63), nullable=False),
        *(sa.Column(f"{axis}_factor", sa.Integer, nullable=False) for axis in "zyx"),
    )
    op.create_table(
        "receipts",
        sa.Column("project_id", sa.String(63), primary_key=True),
        sa.Column("holder", sa.String(200), primary_key=True),
        sa.Column("request_id", sa.String(100), primary_key=True),
        sa.Column("results", sa.JSON, nullable=False),
        *_texts("notice"),
        *_floats("created_at"),
    )
