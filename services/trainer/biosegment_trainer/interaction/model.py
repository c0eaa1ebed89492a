"""The models that requests use."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from biosegment.errors import FailedPrecondition
from biosegment_trainer.interaction.task import ModelPlace
from biosegment_trainer.registry.model import Model, ModelClass
from biosegment_trainer.registry.shipped import ShippedModels
from biosegment_trainer.sql import SqlModels


@dataclass(frozen=True, slots=True)
class SegmentingModel:
    """A model that labels by itself, with the resolution that it works at in nm per pixel."""

    place: ModelPlace
    working_resolution_nm: float


class InteractionModels:
    """Finds the models of a request.

    Args:
        models: The registry.
        shipped: Models of this installation.
        clicks: Name of the shipped model that takes clicks.
        shallow: Name of the shipped model whose first layers strokes may use.
        segmenting: Name of the shipped model that labels for projects without a model of their own.
    """

    def __init__(
        self, models: SqlModels, shipped: ShippedModels, clicks: str, shallow: str, segmenting: str
    ) -> None:
        self._models = models
        self._shipped = shipped
        self._clicks = clicks
        self._shallow = shallow
        self._segmenting = segmenting

    async def for_clicks(self, project_id: str, model_id: str) -> ModelPlace:
        """The named model, or the shipped one when the id is ''.

        Raises:
            NotFound: MODEL_NOT_FOUND.
            FailedPrecondition: MODEL_DELETED, NOT_A_CLICK_MODEL, NO_CLICK_MODEL.
        """
        if model_id:
            model = await self._models.get(model_id)
        else:
            model = await self._of_installation(self._clicks, "NO_CLICK_MODEL", "name one, or draw strokes")
        model.require_clicks_by(project_id)
        return ModelPlace(model.model_id, model.bundle_key, model.new.classes)

    async def for_strokes(self) -> ModelPlace:
        """The shipped model whose first layers strokes use; FailedPrecondition NO_SHIPPED_MODEL."""
        model = await self._of_installation(self._shallow, "NO_SHIPPED_MODEL", "leave network_features out")
        return ModelPlace(model.model_id, model.bundle_key, model.new.classes)

    async def that_segments(
        self, project_id: str, model_id: str, classes: Sequence[ModelClass]
    ) -> SegmentingModel:
        """The named model, or when the id is '' the project's newest, or the shipped one.

        Raises:
            NotFound: MODEL_NOT_FOUND.
            FailedPrecondition: MODEL_DELETED, CLICK_MODEL, NO_MODEL, NO_USABLE_CLASS.
        """
        model = await self._models.get(model_id) if model_id else await self._models.newest(project_id)
        if model is None:
            model = await self._of_installation(self._segmenting, "NO_MODEL", "train a model first")
        model.require_use_by(project_id)
        if model.is_shared:
            model = model.seen_by(classes)
        if not any(item.value >= 2 for item in model.new.classes):
            raise FailedPrecondition(
                "NO_USABLE_CLASS",
                f"{model.name} knows none of the project's classes; fine-tune it on annotations first",
            )
        place = ModelPlace(model.model_id, model.bundle_key, model.new.classes)
        return SegmentingModel(place, model.new.working_resolution_nm)

    async def _of_installation(self, name: str, reason: str, remedy: str) -> Model:
        found = (await self._shipped.registered()).get(name)
        if found is None:
            raise FailedPrecondition(reason, f"this installation ships no model {name!r}; {remedy}")
        return found
