"""Training inside of a worker: voxels in, a bundle out."""

from __future__ import annotations

import dataclasses
import tempfile
import zlib
from contextlib import ExitStack
from pathlib import Path

import numpy as np

from biosegment.errors import InvalidArgument
from biosegment.storage.arrays import Arrays
from biosegment.storage.objects import BlockingObjects, open_blocking_objects
from biosegment.volume import Index, Region
from biosegment_trainer.compute.report import Reporter
from biosegment_trainer.compute.task import AnnotationBlock, TrainedBundle, TrainTask, VolumeArray
from biosegment_trainer.compute.voxel import VoxelReader, open_voxels
from biosegment_trainer.learning.agreement import Agreement, agreement
from biosegment_trainer.learning.bundle import ModelBundle, ModelLineage, read_bundle
from biosegment_trainer.learning.dataset import AnnotatedRegion
from biosegment_trainer.learning.group import Group
from biosegment_trainer.learning.network import LabelClass, NetworkConfig, NetworkModel, head_changes
from biosegment_trainer.learning.normalisation import SliceStatistics
from biosegment_trainer.learning.optimisation import Checkpoint, child_network
from biosegment_trainer.learning.training import TrainedModel, TrainingConfig, TrainingMetrics, train
from biosegment_trainer.prediction.block import aligned
from biosegment_trainer.registry.bundle_files import download_bundle
from biosegment_trainer.registry.model import ModelClass
from biosegment_trainer.training.attempt import Attempt, write_model
from biosegment_trainer.training.checkpoint import Checkpoints
from biosegment_trainer.training.configuration import Configured, configured

_READING = 0.05
"""Share of the task until annotations are read."""


def train_bundle(task: TrainTask, reporter: Reporter, group: Group | None = None) -> TrainedBundle | None:
    """Train and write the bundle; errors of the learning core and of the store, `Stopped` when cancelled.

    Of several processes only the leader writes and answers.
    """
    objects = open_blocking_objects(task.store)
    parent = (
        load_bundle(objects, task.parent.key, task.parent.classes, task.parent.name) if task.parent else None
    )
    chosen = configured(task, parent.model.network if parent else None)
    config = chosen.config
    network = child_network(parent.model.network if parent else None, config.network)
    classes = [LabelClass(item.value, item.name) for item in task.classes]
    _announce(task, chosen, network, parent, classes, reporter)
    examples = _examples(task, config, network, reporter)
    tested = _test(task, config, examples, parent, classes, reporter) if not group or not group.rank else None
    attempt = Attempt(Checkpoints(objects, task.checkpoints, task.callback.attempt), reporter, first=_READING)

    def work(resume_from: Checkpoint | None) -> TrainedModel:
        return train(
            config,
            examples,
            parent.model if parent else None,
            classes=classes,
            seed=task.seed,
            resume_from=resume_from,
            on_progress=attempt.on_progress,
            on_checkpoint=attempt.on_checkpoint,
            should_stop=attempt.should_stop,
            group=group,
        )

    trained = attempt.resumed(work)
    reporter.check()
    if group is not None and group.rank:
        return None
    assert tested is not None
    return _write(task, chosen, trained, tested, parent, objects, reporter)


def _test(
    task: TrainTask,
    config: TrainingConfig,
    examples: list[AnnotatedRegion],
    parent: ModelBundle | None,
    classes: list[LabelClass],
    reporter: Reporter,
) -> Agreement:
    """How far the parent agrees with the annotations that are new since it was made; nothing without a parent."""
    new = [region for region, block in zip(examples, task.annotations, strict=True) if block.new]
    if parent is None or not new:
        return Agreement({}, 0, 0)
    reporter.check()
    reporter.progress(_READING, "testing the parent on new annotations", 0, len(new), "annotations")
    found = agreement(parent.model, new, classes=classes, config=config)
    for name, one in found.classes.items():
        doubt = "" if one.error is None else f" +- {one.error:.3f}"
        reporter.log(f"on {one.regions} new annotations the parent's IoU of {name} is {one.iou:.3f}{doubt}")
    return found


def load_model(objects: BlockingObjects, key: str, classes: tuple[ModelClass, ...]) -> NetworkModel:
    """Read a model; the registry's classes stand for its channels."""
    return load_bundle(objects, key, classes).model


def load_bundle(
    objects: BlockingObjects, key: str, classes: tuple[ModelClass, ...], name: str = ""
) -> ModelBundle:
    """Read a model's bundle; the registry's classes stand for its channels. Errors call it `name`, or by its key.

    Raises:
        InvalidArgument: BAD_WEIGHTS when its weights are damaged or not finite; and as `read_bundle`.
    """
    with tempfile.TemporaryDirectory(prefix="bundle-") as folder:
        download_bundle(objects, key, Path(folder))
        try:
            bundle = read_bundle(Path(folder))
        except InvalidArgument as error:
            if error.reason != "BAD_WEIGHTS":
                raise
            raise InvalidArgument(error.reason, _unusable(name or key, folder, error.message)) from error
    if len(classes) != len(bundle.model.classes):
        raise InvalidArgument(
            "BAD_BUNDLE", f"{key} has {len(bundle.model.classes)} classes, not {len(classes)}"
        )
    named = tuple(LabelClass(item.value, item.name) for item in classes)
    return dataclasses.replace(bundle, model=dataclasses.replace(bundle.model, classes=named))


def _unusable(name: str, folder: str, why: str) -> str:
    """What to do about a stored model that cannot be used."""
    return (
        f"{name} cannot be used: {why.replace(f'{folder}/', '')}; choose an earlier version, to predict with or "
        "as the parent, and delete this one"
    )


def _announce(
    task: TrainTask,
    chosen: Configured,
    network: NetworkConfig,
    parent: ModelBundle | None,
    classes: list[LabelClass],
    reporter: Reporter,
) -> None:
    origin = f"the weights of {task.parent.name}" if task.parent else "random weights"
    reporter.log(f"training a {network.label} on {len(task.annotations)} annotations from {origin}")
    for line in (*chosen.remarks, head_changes(parent.model, classes) if parent else ""):
        if line:
            reporter.log(line)


def _examples(
    task: TrainTask, config: TrainingConfig, network: NetworkConfig, reporter: Reporter
) -> list[AnnotatedRegion]:
    count = len(task.annotations)
    reporter.progress(0.0, "reading annotations", 0, count, "annotations")
    arrays = Arrays(task.store, cache_bytes=64 << 20)
    deep = config.patch_depth // 2 if network.spatial_dims == 3 else network.input_slices // 2
    found = []
    with ExitStack() as stack:
        opened = {
            volume_id: stack.enter_context(open_voxels(volume, arrays, task.callback, reporter))
            for volume_id, (volume, _) in task.volumes.items()
        }
        for number, block in enumerate(task.annotations, start=1):
            reporter.check()
            volume, factor = task.volumes[block.volume_id]
            margin = (deep, config.patch_size * factor // 2)
            found.append(_example(block, volume, factor, opened[block.volume_id], margin))
            reporter.progress(_READING * number / count, "reading annotations", number, count, "annotations")
    return found


def _example(
    block: AnnotationBlock, volume: VolumeArray, factor: int, voxels: VoxelReader, margin: tuple[int, int]
) -> AnnotatedRegion:
    whole = Region(Index(0, 0, 0), Index(*volume.shape))
    deep, wide = margin
    context = aligned(block.region.padded((deep, wide, wide), whole), factor, whole)
    slices = slice(context.start.z, context.stop.z)
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


def _write(
    task: TrainTask,
    chosen: Configured,
    trained: TrainedModel,
    tested: Agreement,
    parent: ModelBundle | None,
    objects: BlockingObjects,
    reporter: Reporter,
) -> TrainedBundle:
    metrics, network = trained.metrics, trained.model.network
    numbers = _numbers(metrics, tested)
    plain = dataclasses.asdict(chosen.config) | {"seed": task.seed, "network": dataclasses.asdict(network)}
    plain["withheld_annotations"] = list(metrics.withheld)
    remarks = (*chosen.remarks, *_remarks(task, metrics))
    for remark in _remarks(task, metrics):
        reporter.log(remark)
    # A parent that is kept was trained on what it was trained on, and not on what its child was.
    if metrics.parent_kept and parent is not None:
        annotations, plain = parent.lineage.annotations, {**parent.lineage.configuration}
    else:
        annotations = tuple(block.name for block in task.annotations)
    # Whichever weights are kept, these are new to no later model.
    plain["tested_annotations"] = [block.name for block in task.annotations if block.new]
    bundle = ModelBundle(
        name=task.display_name or "BioSegment model",
        version="1.0.0",
        model=trained.model,
        working_resolution_nm=task.working_resolution_nm,
        lineage=ModelLineage(task.parent.name if task.parent else "", annotations, plain, dict(numbers)),
        data_license=parent.data_license if parent else "",
    )
    digest = write_model(bundle, objects, task.bundle_key, reporter)
    return TrainedBundle(
        digest, network.label, plain, numbers, remarks, metrics.parent_kept, bundle.data_license
    )


def _remarks(task: TrainTask, metrics: TrainingMetrics) -> tuple[str, ...]:
    found = []
    if metrics.validation_note:
        found.append(f"no validation: {metrics.validation_note}")
    if metrics.parent_kept and task.parent:
        found.append(
            f"the weights of {task.parent.name} were kept: with an IoU of {metrics.parent_iou:.3f} on "
            f"{metrics.validation_regions} held-out annotations nothing that was trained was as good"
        )
    if metrics.stopped_early:
        found.append(f"stopped early at step {metrics.steps}: validation did not improve any more")
    return tuple(found)


def _numbers(metrics: TrainingMetrics, tested: Agreement) -> dict[str, float]:
    numbers = {
        "steps": float(metrics.steps),
        "seconds": metrics.seconds,
        "final_loss": metrics.final_loss,
        "training_annotations": float(metrics.training_regions),
        "validation_annotations": float(metrics.validation_regions),
    }
    if metrics.validation_iou is not None:
        numbers["validation_iou"] = metrics.validation_iou
    if metrics.parent_iou is not None:
        numbers["parent_validation_iou"] = metrics.parent_iou
        numbers["parent_kept"] = float(metrics.parent_kept)
    numbers |= {f"validation/{name}": float(value) for name, value in metrics.validation.items()}
    numbers |= {
        f"parent_validation/{name}": float(value) for name, value in metrics.parent_validation.items()
    }
    if tested.classes:
        numbers |= {"new/annotations": float(tested.regions), "new/voxels": float(tested.voxels)}
    for name, one in tested.classes.items():
        numbers |= {f"new/iou/{name}": one.iou, f"new/annotations/{name}": float(one.regions)}
        numbers[f"new/seen/{name}"] = float(one.seen)
        if one.error is not None:
            numbers[f"new/error/{name}"] = one.error
    # JSON has no NaN, and a class that the held-out part lacks has no IoU.
    return {name: value for name, value in numbers.items() if np.isfinite(value)}
