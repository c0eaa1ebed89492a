"""The model that a training starts from."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from biosegment_trainer.request import TrainRequest
from biosegment_trainer.sql import SqlModels


class ParentChoice:
    """Chooses it, as things are at the time.

    Args:
        models: The registry.
        default_parent: Gives the id of the model that the first training of a project starts from; '' for none.
    """

    def __init__(self, models: SqlModels, default_parent: Callable[[], Awaitable[str]]) -> None:
        self._models = models
        self._default_parent = default_parent

    async def choose(self, project_id: str, request: TrainRequest) -> tuple[str, bool]:
        """Id of the model to start from, '' for none, and whether it is the platform's own choice."""
        if request.parent or request.from_scratch:
            return request.parent, False
        newest = await self._models.newest(project_id)
        if newest is not None:
            return newest.model_id, False
        # Who asks for another network wants no weights of this one.
        if any(name.startswith("network.") for name in request.options):
            return "", False
        found = await self._default_parent()
        return found, bool(found)
