"""What the trainer's figures of a model say, by the names that it gives them."""

from __future__ import annotations

from collections.abc import Mapping

from biosegment.api.trainer.v1alpha1 import trainer_pb2
from biosegment_sampler.domain.progress import ModelProgress, NewAgreement

_OWN, _PARENT = "validation/iou/", "parent_validation/iou/"
_NEW = "new/iou/"


def model_progress(model: trainer_pb2.Model) -> ModelProgress:
    """Of a model as a list has it."""
    metrics: Mapping[str, float] = dict(model.metrics)
    names = sorted(
        {name.removeprefix(head) for head in (_OWN, _PARENT) for name in metrics if name.startswith(head)}
    )
    new = sorted(name.removeprefix(_NEW) for name in metrics if name.startswith(_NEW))
    return ModelProgress(
        name=model.name,
        version=model.version,
        display_name=model.display_name,
        parent=model.parent,
        created_at=model.create_time.ToNanoseconds() / 1e9,
        deleted=model.deleted,
        trained_annotations=int(metrics.get("training_annotations", model.annotation_count)),
        held_out_annotations=int(metrics.get("validation_annotations", 0)),
        iou=metrics.get("validation_iou"),
        parent_iou=metrics.get("parent_validation_iou"),
        parent_kept=bool(metrics.get("parent_kept", 0)),
        class_ious={name: (metrics.get(_OWN + name), metrics.get(_PARENT + name)) for name in names},
        new_agreements=[
            NewAgreement(
                name,
                metrics[_NEW + name],
                metrics.get(f"new/error/{name}"),
                int(metrics.get(f"new/annotations/{name}", 0)),
                int(metrics[f"new/seen/{name}"]) if f"new/seen/{name}" in metrics else None,
            )
            for name in new
        ],
        new_annotations=int(metrics.get("new/annotations", 0)),
        new_voxels=int(metrics.get("new/voxels", 0)),
        remarks=tuple(model.remarks),
        classes=[
            name for name, value in zip(model.class_names, model.class_values, strict=False) if value and name
        ],
    )
