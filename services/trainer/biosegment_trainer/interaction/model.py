"""The models that requests use."""

from __future__ import annotations

from biosegment.errors import FailedPrecondition
from biosegment_trainer.interaction.task import ModelPlace
from biosegment_trainer.registry.model import Model
from biosegment_trainer.registry.shipped import ShippedModels
from biosegment_trainer.sql import SqlModels


class InteractionModels:
    """Finds the models of a request.

    Args:
        models: The registry.
        shipped: Models of this installation.
        clicks: Name of the shipped model that takes clicks.
        shallow: Name of the shipped model whose first layers strokes may use.
    """

    def __init__(self, models: SqlModels, shipped: ShippedModels, clicks: str, shallow: str) -> None:
        self._models = models
        self._shipped = shipped
        self._clicks = clicks
        self._shallow = shallow

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

    async def _of_installation(self, name: str, reason: str, remedy: str) -> Model:
        found = (await self._shipped.registered()).get(name)
        if found is None:
            raise FailedPrecondition(reason, f"this installation ships no model {name!r}; {remedy}")
        return found
