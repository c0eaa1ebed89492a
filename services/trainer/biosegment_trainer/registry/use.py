"""Models as jobs of a project may use them."""

from __future__ import annotations

from biosegment_trainer.datastore_client import DatastoreClient
from biosegment_trainer.registry.model import Model
from biosegment_trainer.sql import SqlModels


async def usable_model(
    models: SqlModels, datastore: DatastoreClient, project_id: str, model_id: str
) -> Model:
    """A model that segments, with weights, of the project or shared by all; a shared one speaks of the project's
    classes.

    Raises:
        NotFound: MODEL_NOT_FOUND, also for other projects' models.
        FailedPrecondition: MODEL_DELETED, CLICK_MODEL.
    """
    model = await models.get(model_id)
    model.require_use_by(project_id)
    if not model.is_shared:
        return model
    return model.seen_by((await datastore.project(project_id)).classes)
