"""SQL tables of the datastore as the code of this release uses them; `migrations` makes them.

Times are microseconds since 1970, UTC. Boxes and shapes are JSON lists in zyx order, except those that
queries look into.
"""

from __future__ import annotations

from typing import Final

import sqlalchemy as sa

METADATA: Final = sa.MetaData()


def _project_id() -> sa.Column[str]:
    return sa.Column(
        "project_id", sa.String(63), sa.ForeignKey("projects.id", ondelete="CASCADE"), primary_key=True
    )


def _time(name: str) -> sa.Column[int]:
    return sa.Column(name, sa.BigInteger, nullable=False)


def _text(name: str, length: int | None = None) -> sa.Column[str]:
    return sa.Column(name, sa.String(length) if length else sa.Text, nullable=False)


def _json(name: str) -> sa.Column[object]:
    return sa.Column(name, sa.JSON, nullable=False)


def _of_volume() -> sa.ForeignKeyConstraint:
    return sa.ForeignKeyConstraint(
        ["project_id", "volume_id"], ["volumes.project_id", "volumes.id"], ondelete="CASCADE"
    )


PROJECTS: Final = sa.Table(
    "projects",
    METADATA,
    sa.Column("id", sa.String(63), primary_key=True),
    _text("display_name"),
    _text("description"),
    _json("classes"),
    _json("retired_values"),
    sa.Column("working_resolution_nm", sa.Float(53), nullable=False),
    _text("storage_key", 200),
    _time("create_time_us"),
    _time("update_time_us"),
    sa.Column("version", sa.Integer, nullable=False),
    # Number of the last annotation record; a row lock on it orders the records.
    sa.Column("last_sequence", sa.BigInteger, nullable=False),
)

MEMBERS: Final = sa.Table(
    "members",
    METADATA,
    _project_id(),
    sa.Column("user_id", sa.String(200), primary_key=True),
    _text("role", 20),
    _time("create_time_us"),
)

# Ids that are not given out again: other services remember models, jobs and samples by them.
DELETED_PROJECTS: Final = sa.Table(
    "deleted_projects",
    METADATA,
    sa.Column("id", sa.String(63), primary_key=True),
    _time("delete_time_us"),
)

VOLUMES: Final = sa.Table(
    "volumes",
    METADATA,
    _project_id(),
    sa.Column("id", sa.String(63), primary_key=True),
    _text("display_name"),
    _json("shape"),
    _text("data_type", 20),
    _json("voxel_size_nm"),
    _json("levels"),
    _text("key", 400),
    _text("source"),
    _json("display_window"),
    _json("slice_mean"),
    _json("slice_std"),
    _text("creator", 200),
    _time("create_time_us"),
    _time("update_time_us"),
    sa.Column("version", sa.Integer, nullable=False),
    # Where the voxels are when they stay where they were.
    sa.Column("reference", sa.JSON(none_as_null=True)),
)

LAYERS: Final = sa.Table(
    "layers",
    METADATA,
    sa.Column("project_id", sa.String(63), primary_key=True),
    sa.Column("volume_id", sa.String(63), primary_key=True),
    sa.Column("id", sa.String(63), primary_key=True),
    _text("display_name"),
    _text("kind", 20),
    _text("state", 20),
    _text("data_type", 20),
    _json("downsampling"),
    _json("shape"),
    sa.Column("class_value", sa.Integer, nullable=False),
    _text("measure", 200),
    _text("model", 200),
    _text("job", 200),
    sa.Column("region", sa.JSON(none_as_null=True)),
    _json("chunk"),
    _json("shard"),
    sa.Column("attempt", sa.Integer, nullable=False),
    _text("storage_key", 400),
    _text("creator", 200),
    _time("create_time_us"),
    _time("commit_time_us"),
    sa.Column("channels", sa.Integer, nullable=False, server_default="1"),
    # Name of the layer that the objects of an instances layer were found in; '' for none.
    sa.Column("source_layer", sa.String(400), nullable=False, server_default=""),
    _of_volume(),
)

ANNOTATIONS: Final = sa.Table(
    "annotations",
    METADATA,
    sa.Column("project_id", sa.String(63), primary_key=True),
    sa.Column("id", sa.String(63), primary_key=True),
    _text("volume_id", 63),
    sa.Column("sequence", sa.BigInteger, nullable=False),
    *(
        sa.Column(f"{edge}_{axis}", sa.BigInteger, nullable=False)
        for edge in ("start", "stop")
        for axis in "zyx"
    ),
    _text("kind", 20),
    _json("class_scope"),
    _text("author", 200),
    _time("create_time_us"),
    _text("sample", 200),
    _text("strategy", 200),
    _text("model", 200),
    sa.Column("work_time_s", sa.Float(53), nullable=False),
    _text("state", 20),
    _text("labels_sha256", 64),
    _text("review_comment"),
    _json("voxel_counts"),
    _text("comment"),
    # Key of the label block in the object storage.
    _text("key", 400),
    # Where it lies, for queries by region; see `annotation_cell`.
    sa.Column("cell", sa.BigInteger, nullable=False),
    _of_volume(),
    sa.Index("annotations_by_sequence", "project_id", "sequence", unique=True),
    sa.Index("annotations_by_volume", "project_id", "volume_id", "sequence"),
    sa.Index("annotations_by_cell", "project_id", "volume_id", "cell"),
    sa.Index("annotations_by_sample", "project_id", "sample", "sequence"),
)

RECORDS: Final = sa.Table(
    "annotation_records",
    METADATA,
    sa.Column("project_id", sa.String(63), primary_key=True),
    sa.Column("sequence", sa.BigInteger, primary_key=True, autoincrement=False),
    _text("volume_id", 63),
    _text("annotation_id", 63),
    _text("action", 20),
    sa.Column("accepted", sa.Boolean, nullable=False),
    _text("comment"),
    _text("author", 200),
    _time("create_time_us"),
    _of_volume(),
    sa.Index("annotation_records_by_volume", "project_id", "volume_id", "sequence"),
    sa.Index("annotation_records_by_annotation", "project_id", "annotation_id", "sequence"),
)

# Unfinished work of one person; nobody else reads it.
DRAFTS: Final = sa.Table(
    "drafts",
    METADATA,
    sa.Column("project_id", sa.String(63), primary_key=True),
    sa.Column("volume_id", sa.String(63), primary_key=True),
    sa.Column("author", sa.String(200), primary_key=True),
    sa.Column("id", sa.String(63), primary_key=True),
    *(
        sa.Column(f"{edge}_{axis}", sa.BigInteger, nullable=False)
        for edge in ("start", "stop")
        for axis in "zyx"
    ),
    _text("kind", 20),
    _json("class_scope"),
    _text("sample", 200),
    sa.Column("work_time_s", sa.Float(53), nullable=False),
    _text("comment"),
    sa.Column("base_sequence", sa.BigInteger, nullable=False),
    _time("update_time_us"),
    _text("labels_sha256", 64),
    # Of everything that was saved, so that the same again is no conflict.
    _text("digest", 64),
    # Prefix of the one object that holds the labels; its last part is the etag.
    _text("key", 400),
    _of_volume(),
    sa.Index("drafts_by_author", "project_id", "author", "update_time_us"),
)

PROJECTIONS: Final = sa.Table(
    "projections",
    METADATA,
    sa.Column("project_id", sa.String(63), primary_key=True),
    sa.Column("volume_id", sa.String(63), primary_key=True),
    sa.Column("wanted_sequence", sa.BigInteger, nullable=False),
    sa.Column("applied_sequence", sa.BigInteger, nullable=False),
    # The instance that may write the annotations layer, and until when.
    _text("owner", 63),
    _time("lease_us"),
    _of_volume(),
)


def _of_layer() -> list[sa.Column[str]]:
    names = "project_id", "volume_id", "layer_id"
    return [sa.Column(name, sa.String(63), primary_key=True) for name in names]


def _of_instance_layer() -> sa.ForeignKeyConstraint:
    names = "project_id", "volume_id", "layer_id"
    return sa.ForeignKeyConstraint(names, [f"instance_layers.{name}" for name in names], ondelete="CASCADE")


# Layers of instances whose objects have been listed, so that they can be edited. A row lock orders the edits.
INSTANCE_LAYERS: Final = sa.Table(
    "instance_layers",
    METADATA,
    *_of_layer(),
    sa.Column("last_sequence", sa.BigInteger, nullable=False),
    # The smallest id that no object of the layer ever had.
    sa.Column("next_id", sa.BigInteger, nullable=False),
    # Of the list of the objects that the layer was written with.
    _text("key", 400),
    sa.ForeignKeyConstraint(
        ["project_id", "volume_id", "layer_id"],
        ["layers.project_id", "layers.volume_id", "layers.id"],
        ondelete="CASCADE",
    ),
)

# What was done to the objects of a layer, and what was taken back: a revert is a row of its own.
INSTANCE_EDITS: Final = sa.Table(
    "instance_edits",
    METADATA,
    *_of_layer(),
    sa.Column("sequence", sa.BigInteger, primary_key=True, autoincrement=False),
    _text("id", 63),
    _text("kind", 20),
    _json("ids"),
    sa.Column("target", sa.BigInteger, nullable=False),
    _json("new_ids"),
    sa.Column("class_value", sa.Integer, nullable=False),
    sa.Column("region", sa.JSON(none_as_null=True)),
    _text("labels_sha256", 64),
    # Of the block of a split or reassignment; '' when there is none.
    _text("key", 400),
    _text("author", 200),
    _time("create_time_us"),
    _text("comment"),
    # Of a revert: id of what it takes back.
    _text("reverts", 63),
    # 0 while it holds.
    _time("revert_time_us"),
    _of_instance_layer(),
    sa.Index("instance_edits_by_id", "project_id", "volume_id", "layer_id", "id", unique=True),
)

# Which edits touched an object.
INSTANCE_EDIT_IDS: Final = sa.Table(
    "instance_edit_ids",
    METADATA,
    *_of_layer(),
    sa.Column("instance", sa.BigInteger, primary_key=True, autoincrement=False),
    sa.Column("sequence", sa.BigInteger, primary_key=True, autoincrement=False),
    _of_instance_layer(),
)

UPLOADS: Final = sa.Table(
    "uploads",
    METADATA,
    _project_id(),
    sa.Column("id", sa.String(63), primary_key=True),
    _text("file_name", 200),
    sa.Column("size_bytes", sa.BigInteger, nullable=False),
    sa.Column("received_bytes", sa.BigInteger, nullable=False),
    _time("expire_time_us"),
    _text("key", 400),
    _text("creator", 200),
)

ARTIFACTS: Final = sa.Table(
    "artifacts",
    METADATA,
    _project_id(),
    sa.Column("id", sa.String(63), primary_key=True),
    _text("file_name", 200),
    sa.Column("size_bytes", sa.BigInteger, nullable=False),
    _text("sha256", 64),
    _text("media_type", 100),
    _text("key", 400),
    _time("create_time_us"),
)

# Requests that were carried out, so that a repeated one answers the same. The scope is a project id, or `user:...` for
# new projects.
REQUESTS: Final = sa.Table(
    "requests",
    METADATA,
    sa.Column("scope", sa.String(220), primary_key=True),
    sa.Column("request_id", sa.String(100), primary_key=True),
    _text("digest", 64),
    _text("resource", 400),
)

# Prefixes of the object storage that nothing refers to: deleted things, and the results of unfinished attempts, which
# are entered before the first byte is written and taken out by the transaction that finishes them.
GARBAGE: Final = sa.Table(
    "garbage",
    METADATA,
    sa.Column("prefix", sa.String(400), primary_key=True),
    _time("due_us"),
    # Attempt of a job that is still writing there; '' when the prefix only waits for its time, 'swept' when it was
    # emptied and waits for those who may write late.
    _text("owner", 100),
)

# Leases of samples that somebody took over: commits with a smaller number are refused.
ENDED_LEASES: Final = sa.Table(
    "ended_leases",
    METADATA,
    _project_id(),
    sa.Column("sample", sa.String(200), primary_key=True),
    sa.Column("term", sa.BigInteger, nullable=False),
    _text("successor", 200),
    _text("successor_name", 200),
)

# While one of these has not expired, nothing is removed from the object storage: a backup is copying what its snapshot
# of the rows refers to, and prolongs its hold as long as it lives.
HOLDS: Final = sa.Table(
    "holds",
    METADATA,
    sa.Column("id", sa.String(63), primary_key=True),
    _time("expire_time_us"),
)
