"""SQL tables of the trainer, as the code of this release uses them."""

from __future__ import annotations

from typing import Final

import sqlalchemy as sa

METADATA: Final = sa.MetaData()

MODELS: Final = sa.Table(
    "models",
    METADATA,
    sa.Column("model_id", sa.String(63), primary_key=True),
    sa.Column("project_id", sa.String(63), nullable=False),
    sa.Column("version", sa.Integer, nullable=False),
    sa.Column("display_name", sa.String(200), nullable=False),
    sa.Column("parent", sa.String(63), nullable=False),
    sa.Column("network", sa.String(100), nullable=False),
    sa.Column("classes", sa.JSON, nullable=False),
    sa.Column("working_resolution_nm", sa.Float, nullable=False),
    sa.Column("annotations", sa.JSON, nullable=False),
    sa.Column("annotation_count", sa.Integer, nullable=False),
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
    sa.Index("models_job", "job"),
)
