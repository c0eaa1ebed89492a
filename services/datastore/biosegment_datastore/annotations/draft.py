"""Drafts: unfinished work of one person, which nobody else sees."""

from __future__ import annotations

from dataclasses import dataclass

from biosegment_datastore.annotations.annotation import NewAnnotation


@dataclass(frozen=True, slots=True)
class Draft:
    """What was saved last.

    Attributes:
        id: Chosen by the client; unique among its author's drafts of the volume.
        content: As it would be committed; `class_scope` may be empty.
        base_sequence: Number of the last record that the client had seen.
        labels_sha256: Of the decoded labels, hexadecimal.
        digest: Of everything that was saved.
        key: Prefix of its labels in the object storage; another one with each save.
    """

    project_id: str
    volume_id: str
    id: str
    author: str
    content: NewAnnotation
    base_sequence: int
    update_time_us: int
    labels_sha256: str
    digest: str
    key: str

    @property
    def name(self) -> str:
        return f"projects/{self.project_id}/volumes/{self.volume_id}/drafts/{self.id}"

    @property
    def etag(self) -> str:
        return self.key.rpartition("/")[2]

    @property
    def labels_key(self) -> str:
        """The one object below `key`."""
        return f"{self.key}/labels"
