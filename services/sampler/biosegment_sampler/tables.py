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
    sa.Column("score_downsampling", sa.JSON, nullable=False),
    sa.Column("seed", sa.BigInteger, nullable=False),
    sa.Column("holder", sa.Text, nullable=False),
    sa.Column("lease_issued_at", sa.Float(53), nullable=False),
    sa.Column("lease_expires_at", sa.Float(53), nullable=False),
    sa.Column("annotation", sa.Text, nullable=False),
    sa.Column("skip_reason", sa.Text, nullable=False),
    sa.Column("notice", sa.Text, nullable=False),
    sa.Column("created_at", sa.Float(53), nullable=False),
    sa.Column("holder_name", sa.Text, nullable=False),
    sa.Column("session", sa.Text, nullable=False),
    sa.Column("lease_active_at", sa.Float(53), nullable=False),
    sa.Column("lease_heartbeat_at", sa.Float(53), nullable=False),
    sa.Column("purpose", sa.String(16), nullable=False),
    sa.Column("skipped_by", sa.Text, nullable=False),
    sa.Column("term", sa.BigInteger, nullable=False),
    sa.Column("flag_text", sa.Text, nullable=False),
    sa.Column("flag_user", sa.Text, nullable=False),
    sa.Column("flag_at", sa.Float(53), nullable=False),
    sa.Column("events", sa.JSON, nullable=False),
    sa.Column("wants_second", sa.Boolean, nullable=False),
    sa.Column("authors", sa.BigInteger, nullable=False),
    sa.Column("dealt", sa.Boolean, nullable=False, server_default=sa.true()),
    sa.Column("first_change", sa.BigInteger, nullable=False, server_default="0"),
    sa.Column("change", sa.BigInteger, nullable=False, server_default="0"),
    sa.Index("samples_by_change", "project_id", "change"),
    sa.Index("samples_by_first_change", "project_id", "first_change"),
    sa.Index("samples_by_state", "project_id", "state"),
    sa.Index("samples_by_holder", "project_id", "holder", "state"),
)

# The number of the last change of samples and annotations, and of the last one of score layers.
changes = sa.Table(
    "changes",
    metadata,
    sa.Column("project_id", sa.String(63), primary_key=True),
    sa.Column("number", sa.BigInteger, nullable=False),
    sa.Column("scores", sa.BigInteger, nullable=False),
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
    sa.Column("change", sa.BigInteger, nullable=False, server_default="0"),
    sa.Index("annotations_by_change", "project_id", "change"),
    sa.Index("annotations_by_sample", "project_id", "sample_id"),
    sa.Index("annotations_by_state", "project_id", "state", "sequence"),
)

# Annotations that somebody is reviewing.
reviews = sa.Table(
    "reviews",
    metadata,
    sa.Column("project_id", sa.String(63), primary_key=True),
    sa.Column("annotation", sa.String(255), primary_key=True),
    sa.Column("holder", sa.Text, nullable=False),
    sa.Column("holder_name", sa.Text, nullable=False),
    sa.Column("session", sa.Text, nullable=False),
    sa.Column("lease_issued_at", sa.Float(53), nullable=False),
    sa.Column("lease_expires_at", sa.Float(53), nullable=False),
    sa.Column("lease_active_at", sa.Float(53), nullable=False),
    sa.Column("lease_heartbeat_at", sa.Float(53), nullable=False),
)

# Comparisons of two annotations; those never change, so neither does this.
agreements = sa.Table(
    "agreements",
    metadata,
    sa.Column("project_id", sa.String(63), primary_key=True),
    sa.Column("first", sa.String(255), primary_key=True),
    sa.Column("second", sa.String(255), primary_key=True),
    sa.Column("compared", sa.BigInteger, nullable=False),
    sa.Column("agreed", sa.BigInteger, nullable=False),
    sa.Column("classes", sa.JSON, nullable=False),
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
    sa.Column("passes", sa.String(16), nullable=False),
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
