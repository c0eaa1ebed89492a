"""SQL tables of the sampler. Regions are level-0 voxels, half-open; times are Unix seconds."""

from __future__ import annotations

from dataclasses import fields
from typing import Final

import sqlalchemy as sa

from biosegment_sampler.domain.pool import Loop

metadata = sa.MetaData()

REGION_COLUMNS: Final = ("z_start", "y_start", "x_start", "z_stop", "y_stop", "x_stop")


def _region() -> list[sa.Column[int]]:
    return [sa.Column(name, sa.BigInteger, nullable=False) for name in REGION_COLUMNS]


def _loop_column(name: str, default: object) -> sa.Column[object]:
    kind: sa.types.TypeEngine[object] = {int: sa.BigInteger(), float: sa.Float(53), str: sa.Text()}[  # type: ignore[assignment]
        type(default)
    ]
    return sa.Column(name, kind, nullable=False)


pools = sa.Table(
    "pools",
    metadata,
    sa.Column("project_id", sa.String(63), primary_key=True),
    sa.Column("settings", sa.JSON, nullable=False),
    sa.Column("revision", sa.BigInteger, nullable=False),
    *(_loop_column(item.name, item.default) for item in fields(Loop)),
)

samples = sa.Table(
    "samples",
    metadata,
    sa.Column("project_id", sa.String(63), primary_key=True),
    sa.Column("sample_id", sa.String(63), primary_key=True),
    sa.Column("volume_id", sa.String(63), nullable=False),
    *_region(),
    sa.Column("state", sa.String(16), nullable=False),
    sa.Column("strategy", sa.String(63), nullable=False),
    sa.Column("score", sa.Float(53), nullable=False),
    sa.Column("rank", sa.Integer, nullable=False),
    sa.Column("model", sa.Text, nullable=False),
    sa.Column("score_layer", sa.Text, nullable=False),
    sa.Column("seed", sa.BigInteger, nullable=False),
    sa.Column("holder", sa.Text, nullable=False),
    sa.Column("lease_issued_at", sa.Float(53), nullable=False),
    sa.Column("lease_expires_at", sa.Float(53), nullable=False),
    sa.Column("annotation", sa.Text, nullable=False),
    sa.Column("skip_reason", sa.Text, nullable=False),
    sa.Column("notice", sa.Text, nullable=False),
    sa.Column("created_at", sa.Float(53), nullable=False),
    sa.Index("samples_by_state", "project_id", "state"),
)

# Named so because `annotations` is what `from __future__` brought in.
annotation_table = sa.Table(
    "annotations",
    metadata,
    sa.Column("project_id", sa.String(63), primary_key=True),
    sa.Column("name", sa.String(255), primary_key=True),
    sa.Column("sequence", sa.BigInteger, nullable=False),
    sa.Column("volume_id", sa.String(63), nullable=False),
    *_region(),
    sa.Column("author", sa.Text, nullable=False),
    sa.Column("sample_id", sa.String(63), nullable=False),
    sa.Column("work_time_s", sa.Float(53), nullable=False),
    sa.Column("voxel_counts", sa.JSON, nullable=False),
    sa.Column("created_at", sa.Float(53), nullable=False),
    sa.Column("state", sa.String(16), nullable=False),
    sa.Column("in_latest_model", sa.Boolean, nullable=False),
    sa.Index("annotations_by_sample", "project_id", "sample_id"),
)

score_layers = sa.Table(
    "score_layers",
    metadata,
    sa.Column("project_id", sa.String(63), primary_key=True),
    sa.Column("name", sa.String(255), primary_key=True),
    sa.Column("model", sa.Text, nullable=False),
    sa.Column("volume_id", sa.String(63), nullable=False),
    sa.Column("measure", sa.String(63), nullable=False),
    sa.Column("uri", sa.Text, nullable=False),
    sa.Column("z_factor", sa.Integer, nullable=False),
    sa.Column("y_factor", sa.Integer, nullable=False),
    sa.Column("x_factor", sa.Integer, nullable=False),
)

receipts = sa.Table(
    "receipts",
    metadata,
    sa.Column("project_id", sa.String(63), primary_key=True),
    sa.Column("holder", sa.String(200), primary_key=True),
    sa.Column("request_id", sa.String(100), primary_key=True),
    sa.Column("results", sa.JSON, nullable=False),
    sa.Column("notice", sa.Text, nullable=False),
    sa.Column("created_at", sa.Float(53), nullable=False),
)
