"""Training inside of a worker: voxels in, a bundle out."""

from __future__ import annotations

import dataclasses
import tempfile
import zlib
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np

from biosegment.errors import FailedPrecondition, InvalidArgument
from biosegment.failpoint import failpoint
from biosegment.storage.arrays import Arrays
from biosegment.storage.objects import BlockingObjects, open_blocking_objects
from biosegment.volume import Index, Region
from biosegment_trainer.compute.report import Reporter
from biosegment_trainer.compute.task import AnnotationBlock, Parent, TrainedBundle, TrainTask, VolumeArray
from biosegment_trainer.compute.voxel import VoxelReader, open_voxels
from biosegment_trainer.learning.bundle import ModelBundle, ModelLineage, read_bundle, write_bundle
from biosegment_trainer.learning.dataset import AnnotatedRegion
from biosegment_trainer.learning.network import LabelClass, NetworkModel
from biosegment_trainer.learning.normalisation import SliceStatistics
from biosegment_trainer.learning.training import (
    TrainedModel,
    TrainingConfig,
    TrainingMetrics,
    TrainingProgress,
    train,
)
from biosegment_trainer.prediction.block import aligned
from biosegment_trainer.registry.bundle_files import download_bundle, upload_bundle
from biosegment_trainer.registry.model import ModelClass
from biosegment_trainer.training.checkpoint import Checkpoints
from biosegment_trainer.training.option import Option


def train_bundle(task: TrainTask, reporter: Reporter) -> TrainedBundle:
    """Train and write the bundle; errors of the learning core and of the store, `Stopped` when cancelled."""
    config = training_config(task)
    objects = open_blocking_objects(task.store)
    reporter.progress(0.0, "reading annotations", 0, len(task.annotations), "annotations")
    examples = _examples(task, config, reporter)
    parent = load_model(objects, task.parent.key, task.parent.classes) if task.parent else None
    trained = _train(
        task,
        config,
        examples,
        parent,
        Checkpoints(objects, task.checkpoints, task.callback.attempt),
        reporter,
    )
    reporter.check()
    reporter.progress(0.99, "writing the model")
    return _write(task, config, trained, objects, reporter)


def training_config(task: TrainTask) -> TrainingConfig:
    """The training configuration that a task asks for."""
    config = _with_options(TrainingConfig(), task.options)
    if task.max_steps:
        config = dataclasses.replace(config, steps=task.max_steps)
    if task.max_seconds:
        config = dataclasses.replace(config, max_seconds=task.max_seconds)
    return config


def _with_options(config: TrainingConfig, options: Mapping[str, Option]) -> TrainingConfig:
    for name, value in options.items():
        part, _, inner = name.rpartition(".")
        # The names were checked; the configuration itself refuses values out of range.
        if part == "network":
            config = dataclasses.replace(config, network=config.network.with_arguments(**{inner: value}))
        elif part:
            changed: Any = dataclasses.replace(getattr(config, part), **{inner: value})
            config = dataclasses.replace(config, **{part: changed})
        else:
            changed = {name: value}
            config = dataclasses.replace(config, **changed)
    return config


def load_model(objects: BlockingObjects, key: str, classes: tuple[ModelClass, ...]) -> NetworkModel:
    """Read a model's bundle; the registry's classes stand for its channels."""
    with tempfile.TemporaryDirectory(prefix="bundle-") as folder:
        download_bundle(objects, key, Path(folder))
        bundle = read_bundle(Path(folder))
    if len(classes) != len(bundle.model.classes):
        raise InvalidArgument(
            "BAD_BUNDLE", f"{key} has {len(bundle.model.classes)} classes, not {len(classes)}"
        )
    named = tuple(LabelClass(item.value, item.name) for item in classes)
    return dataclasses.replace(bundle.model, classes=named)


def _examples(task: TrainTask, config: TrainingConfig, reporter: Reporter) -> list[AnnotatedRegion]:
    arrays = Arrays(task.store, cache_bytes=64 << 20)
    found = []
    with ExitStack() as stack:
        opened = {
            volume_id: stack.enter_context(open_voxels(volume, arrays, task.callback, reporter))
            for volume_id, (volume, _) in task.volumes.items()
        }
        for number, block in enumerate(task.annotations):
            reporter.check()
            volume, factor = task.volumes[block.volume_id]
            found.append(_example(block, volume, factor, opened[block.volume_id], config.patch_size))
            reporter.progress(
                0.05 * (number + 1) / len(task.annotations),
                "reading annotations",
                number + 1,
                len(task.annotations),
                "annotations",
            )
    return found


def _example(
    block: AnnotationBlock, volume: VolumeArray, factor: int, voxels: VoxelReader, patch: int
) -> AnnotatedRegion:
    whole = Region(Index(0, 0, 0), Index(*volume.shape))
    margin = patch * factor // 2
    context = aligned(block.region.padded((0, margin, margin), whole), factor, whole)
    slices = slice(block.region.start.z, block.region.stop.z)
    labels = np.frombuffer(zlib.decompress(block.labels), np.uint8).reshape(block.region.shape)
    return AnnotatedRegion(
        region_id=block.name,
        volume_id=block.volume_id,
        region=block.region,
        context=context,
        raw=voxels.read(context),
        labels=labels,
        scope=block.scope,
        statistics=SliceStatistics(np.array(volume.mean), np.array(volume.std))[slices],
        factor=factor,
        seen_by_parent=block.seen_by_parent,
    )


def _train(
    task: TrainTask,
    config: TrainingConfig,
    examples: list[AnnotatedRegion],
    parent: NetworkModel | None,
    checkpoints: Checkpoints,
    reporter: Reporter,
) -> TrainedModel:
    classes = [LabelClass(item.value, item.name) for item in task.classes]
    resume = checkpoints.newest()
    reporter.log(
        f"training on {len(examples)} annotations from "
        + (f"the weights of {task.parent.name}" if task.parent else "random weights")
    )

    def on_progress(progress: TrainingProgress) -> None:
        reporter.progress(
            0.05 + 0.93 * progress.fraction,
            "training",
            progress.step,
            progress.steps,
            "steps",
            loss=progress.loss,
        )

    def on_checkpoint(checkpoint: dict[str, Any]) -> None:
        if not reporter.should_stop:
            checkpoints.write(checkpoint)

    def attempt(resume_from: dict[str, Any] | None) -> TrainedModel:
        return train(
            config,
            examples,
            parent,
            classes=classes,
            seed=task.seed,
            resume_from=resume_from,
            on_progress=on_progress,
            on_checkpoint=on_checkpoint,
            should_stop=lambda: reporter.should_stop,
        )

    if resume is None:
        return attempt(None)
    key, content = resume
    try:
        reporter.log(f"resuming at step {content['step']} from {key}")
        return attempt(content)
    except FailedPrecondition as error:
        reporter.log(f"starting afresh: {error.message}")
        return attempt(None)


def _write(
    task: TrainTask,
    config: TrainingConfig,
    trained: TrainedModel,
    objects: BlockingObjects,
    reporter: Reporter,
) -> TrainedBundle:
    metrics = trained.metrics
    numbers = _numbers(metrics)
    plain = dataclasses.asdict(config) | {"seed": task.seed}
    plain["network"] = dataclasses.asdict(trained.model.network)
    bundle = ModelBundle(
        name=task.display_name or "BioSegment model",
        version="1.0.0",
        model=trained.model,
        working_resolution_nm=task.working_resolution_nm,
        lineage=ModelLineage(
            task.parent.name if task.parent else "",
            tuple(block.name for block in task.annotations),
            plain,
            dict(numbers),
        ),
    )
    with tempfile.TemporaryDirectory(prefix="bundle-") as folder:
        write_bundle(bundle, Path(folder))
        reporter.check()
        digest = upload_bundle(objects, Path(folder), task.bundle_key)
        failpoint("trainer.worker.bundle_written")
    note = metrics.validation_note
    remarks = (f"no validation: {note}",) if note else ()
    return TrainedBundle(digest, "unet2d", plain, numbers, remarks)


def _numbers(metrics: TrainingMetrics) -> dict[str, float]:
    numbers = {
        "steps": float(metrics.steps),
        "seconds": metrics.seconds,
        "final_loss": metrics.final_loss,
        "training_annotations": float(metrics.training_regions),
        "validation_annotations": float(metrics.validation_regions),
    }
    ious = [value for name, value in metrics.validation.items() if name.startswith("iou/")]
    if ious:
        numbers["validation_iou"] = float(np.mean(ious))
    numbers |= {f"validation/{name}": float(value) for name, value in metrics.validation.items()}
    # JSON has no NaN, and a class that the held-out part lacks has no IoU.
    return {name: value for name, value in numbers.items() if np.isfinite(value)}


__all__ = ["Parent", "load_model", "train_bundle", "training_config"]
