"""Which objects rows refer to.

The datastore's rules of naming are enough: a column `key`, or one that ends so, names an object or the folder of
several; `storage_key` and `attempt` together name a layer's array. A later table is taken along the same way.
"""

from __future__ import annotations

import hashlib
import zlib
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from biosegment.errors import InvalidArgument
from biosegment.storage.key import check_key

_VOXELS: Final = ("volumes", "layers", "artifacts")
"""Tables whose objects are the big ones, and come along only on request."""
_NOTHING: Final = ("projects", "garbage", "uploads")
"""A project's key is the place of all its things; the others name what a restored platform does not need."""
_WEIGHTS: Final = "models/model.pt"
_BLOCK_MAGIC: Final = b"BSL1"
_BLOCK_HEAD: Final = 36


@dataclass(frozen=True, slots=True)
class Reference:
    """Something in the object storage that a row needs.

    Attributes:
        key: An object's key, or the prefix of several, without the final '/'.
        kind: `object`, `folder`, or `any` when the table does not tell.
        is_immutable: Whether the content under a key never changes.
        check_kind: See `biosegment.backup.index.Wanted`.
        check_value: Likewise.
    """

    key: str
    kind: str
    is_immutable: bool
    check_kind: str = ""
    check_value: str = ""


def references(
    service: str, table: str, columns: Collection[str], with_volumes: bool
) -> Callable[[Mapping[str, Any]], Sequence[Reference]] | None:
    """What finds the references of one row of a table; None when its rows have none."""
    if service == "trainer":
        return _model if table == "models" else None
    if service != "datastore" or table in _NOTHING or (table in _VOXELS and not with_volumes):
        return None
    if table == "layers":
        return _layer
    if table in ("annotations", "instance_edits"):
        return _block
    keys = [name for name in columns if name == "key" or name.endswith("_key")]
    if not keys:
        return None
    if table == "volumes" and "reference" in columns:
        # A volume's voxels may have stayed where they were: they are somebody else's, and nothing is below its key.
        return lambda row: [] if _is_set(row["reference"]) else [Reference(row["key"], "folder", True)]
    kind = "folder" if table in _VOXELS else "any"
    return lambda row: [Reference(row[name], kind, table in _VOXELS) for name in keys if _is_ours(row[name])]


def _layer(row: Mapping[str, Any]) -> Sequence[Reference]:
    # The annotations layer is made anew from the records; what is being written is nobody's yet.
    if row["kind"] == "annotations" or row["state"] != "committed":
        return []
    return [Reference(layer_key(row["storage_key"], row["attempt"]), "folder", True)]


def layer_key(storage_key: str, attempt: int) -> str:
    """Prefix of the array that counts."""
    return f"{storage_key}/{attempt}"


def _block(row: Mapping[str, Any]) -> Sequence[Reference]:
    found = [Reference(row["key"], "object", True, "labels", row["labels_sha256"])] if row["key"] else []
    others = [name for name in row if name != "key" and name.endswith("_key")]
    return found + [Reference(row[name], "any", True) for name in others if _is_ours(row[name])]


def model_prefix(model_id: str) -> str:
    """Where a model's bundle lies."""
    return f"models/{model_id}"


def _model(row: Mapping[str, Any]) -> Sequence[Reference]:
    if row["deleted"]:
        return []
    prefix = model_prefix(row["model_id"])
    weights = Reference(f"{prefix}/{_WEIGHTS}", "object", True, "sha256", row["weights_sha256"])
    return [weights, Reference(prefix, "folder", True)]


def _is_set(json_text: str | None) -> bool:
    return json_text not in (None, "null")


def _is_ours(key: Any) -> bool:
    """Whether this is a key of the platform's own store; a volume may also lie elsewhere, by its URL."""
    try:
        return isinstance(key, str) and bool(check_key(key))
    except InvalidArgument:
        return False


def is_sound(data: bytes, sha256: str, check_kind: str, check_value: str) -> bool:
    """Whether the content of an object, and its SHA-256, are what its row says."""
    if check_kind == "sha256":
        return not check_value or sha256 == check_value
    if check_kind == "labels" and data.startswith(_BLOCK_MAGIC):
        try:
            labels = zlib.decompress(data[_BLOCK_HEAD:])
        except zlib.error:
            return False
        return hashlib.sha256(labels).hexdigest() == check_value
    return True
