"""Models: immutable versions of a network with weights."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from biosegment.errors import FailedPrecondition


@dataclass(frozen=True, slots=True)
class ModelClass:
    """One class that a model tells apart: its value in label blocks (2..255) and its name."""

    value: int
    name: str


@dataclass(frozen=True, slots=True)
class NewModel:
    """What is known of a model before it is registered; fields as in the `Model` message."""

    model_id: str
    project_id: str
    display_name: str
    parent: str
    network: str
    classes: tuple[ModelClass, ...]
    working_resolution_nm: float
    weights_sha256: str
    annotations: tuple[str, ...] = ()
    config: Mapping[str, Any] = field(default_factory=dict)
    metrics: Mapping[str, float] = field(default_factory=dict)
    job: str = ""
    author: str = ""
    data_license: str = ""
    remarks: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Model:
    """A registered model.

    Attributes:
        new: What was registered.
        version: 1, 2, 3 ... in the project.
        create_time: When.
        deleted: Its weights are gone.
        display_name: The present one.
    """

    new: NewModel
    version: int
    create_time: datetime
    deleted: bool
    display_name: str

    @property
    def model_id(self) -> str:
        return self.new.model_id

    @property
    def name(self) -> str:
        return f"models/{self.new.model_id}"

    @property
    def bundle_key(self) -> str:
        """Prefix of its bundle in the object store."""
        return bundle_key(self.new.model_id)

    def require_weights(self) -> None:
        """Raise FailedPrecondition MODEL_DELETED when the weights are gone."""
        if self.deleted:
            raise FailedPrecondition(
                "MODEL_DELETED", f"the weights of {self.name} were deleted; choose another model"
            )


def bundle_key(model_id: str) -> str:
    """Where a model's bundle lies in the object store."""
    return f"models/{model_id}"
