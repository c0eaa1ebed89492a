"""Models: immutable versions of a network with weights."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any, Final

from biosegment.errors import FailedPrecondition, NotFound

SHARED_PROJECT: Final = ""
"""Stands for no project: models that are shipped with the platform."""
CLICKS: Final = "clicks"
"""Role of a model that corrects masks where somebody clicks, in its bundle (`biosegment.role`) and in `config`."""


@dataclass(frozen=True, slots=True)
class ModelClass:
    """One class that a model tells apart: its value in label blocks, 2..255, or 0 for a class of a foreign model
    that the project lacks, and its name.
    """

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
        annotation_count: Of annotations, also where a list leaves them out.
    """

    new: NewModel
    version: int
    create_time: datetime
    deleted: bool
    display_name: str
    annotation_count: int

    @property
    def model_id(self) -> str:
        return self.new.model_id

    @property
    def name(self) -> str:
        return f"models/{self.new.model_id}"

    @property
    def is_shared(self) -> bool:
        """Whether it is shipped with the platform, for every project, and nobody's to change."""
        return self.new.project_id == SHARED_PROJECT

    @property
    def version_in_project(self) -> int:
        """Its version, 0 for a shared model: every model that a project trained is newer."""
        return 0 if self.is_shared else self.version

    @property
    def is_click_model(self) -> bool:
        """Whether it corrects masks with clicks: it sees a mask and clicks beside the image, and cannot predict."""
        return self.new.config.get("role") == CLICKS

    def require_use_by(self, project_id: str) -> None:
        """Raise as `require_seen_by`, and FailedPrecondition CLICK_MODEL for one that takes clicks."""
        self.require_seen_by(project_id)
        if self.is_click_model:
            raise FailedPrecondition(
                "CLICK_MODEL",
                f"{self.name} corrects masks with clicks: it can neither predict nor be a parent; choose a model that "
                "segments, or none for the default",
            )

    def require_clicks_by(self, project_id: str) -> None:
        """Raise as `require_seen_by`, and FailedPrecondition NOT_A_CLICK_MODEL for one that does not take clicks."""
        self.require_seen_by(project_id)
        if not self.is_click_model:
            raise FailedPrecondition(
                "NOT_A_CLICK_MODEL",
                f"{self.name} predicts and does not correct with clicks; leave the model out to use the shipped one",
            )

    def require_seen_by(self, project_id: str) -> None:
        """Raise NotFound MODEL_NOT_FOUND unless a project may use it, and as `require_weights`."""
        if self.new.project_id not in (project_id, SHARED_PROJECT):
            # As if there were none: names of other projects' models are nobody's business.
            raise NotFound("MODEL_NOT_FOUND", f"project {project_id!r} has no model {self.name}")
        self.require_weights()

    def seen_by(self, classes: Sequence[ModelClass]) -> Model:
        """The same model with a project's values for the classes of its names, 0 for those that it lacks."""
        values = {item.name.casefold(): item.value for item in classes}
        found = tuple(ModelClass(values.get(c.name.casefold(), 0), c.name) for c in self.new.classes)
        return replace(self, new=replace(self.new, classes=found))

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
