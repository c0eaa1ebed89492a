"""Which models refine by clicks."""

from __future__ import annotations

from biosegment.errors import FailedPrecondition
from biosegment_trainer.interaction.task import ModelPlace
from biosegment_trainer.registry.shipped import ShippedModels
from biosegment_trainer.sql import SqlModels


class ClickModels:
    """Finds the model of a request.

    Args:
        models: The registry.
        shipped: Models of this installation.
        default: Name of the shipped click model.
        shallow: Name of the shipped model whose first layers strokes may use.
    """

    def __init__(self, models: SqlModels, shipped: ShippedModels, default: str, shallow: str) -> None:
        self._models = models
        self._shipped = shipped
        self._default = default
        self._shallow = shallow

    async def for_clicks(self, project_id: str, model_id: str) -> ModelPlace:
        """The named model, or the shipped one.

        Raises:
            NotFound: MODEL_NOT_FOUND.
            FailedPrecondition: MODEL_DELETED, NOT_A_CLICK_MODEL, NO_CLICK_MODEL.
        """
        if not model_id:
            found = (await self._shipped.registered()).get(self._default)
            if found is None:
                raise FailedPrecondition(
                    "NO_CLICK_MODEL",
                    f"this installation ships no click model {self._default!r}; name a model, or draw strokes instead",
                )
            model_id = found.model_id
        model = await self._models.get(model_id)
        model.require_clicks_by(project_id)
        return ModelPlace(model.model_id, model.bundle_key)

    async def shallow(self, project_id: str) -> ModelPlace:
        """The shipped segmentation model; FailedPrecondition NO_SHIPPED_MODEL."""
        found = (await self._shipped.registered()).get(self._shallow)
        if found is None:
            raise FailedPrecondition(
                "NO_SHIPPED_MODEL",
                f"this installation ships no model {self._shallow!r}; leave network_features out",
            )
        return ModelPlace(found.model_id, found.bundle_key, found.new.classes)
