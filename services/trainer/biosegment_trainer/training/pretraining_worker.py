"""Pretraining inside of a worker: raw voxels in, the bundle of a parent out."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from contextlib import ExitStack

import numpy as np
from numpy.typing import NDArray

from biosegment.storage.arrays import Arrays
from biosegment.storage.objects import open_blocking_objects
from biosegment.volume import Region
from biosegment_trainer.compute.report import Reporter
from biosegment_trainer.compute.task import PretrainTask, TrainedBundle
from biosegment_trainer.compute.voxel import VoxelReader, open_voxels
from biosegment_trainer.learning.bundle import ModelBundle, ModelLineage
from biosegment_trainer.learning.group import Group
from biosegment_trainer.learning.normalisation import SliceStatistics
from biosegment_trainer.learning.optimisation import Checkpoint
from biosegment_trainer.learning.pretraining import PretrainedModel, RawVolume, pretrain
from biosegment_trainer.training.attempt import Attempt, write_model
from biosegment_trainer.training.checkpoint import Checkpoints
from biosegment_trainer.training.configuration import configured


def pretrain_bundle(
    task: PretrainTask, reporter: Reporter, group: Group | None = None
) -> TrainedBundle | None:
    """Pretrain and write the bundle; as `train_bundle`."""
    objects = open_blocking_objects(task.store)
    chosen = configured(task, None)
    config = chosen.config
    reporter.log(f"pretraining a {config.network.label} on {len(task.volumes)} volumes")
    reporter.progress(0.0, "reading voxels")
    attempt = Attempt(Checkpoints(objects, task.checkpoints, task.callback.attempt), reporter, first=0.02)
    arrays = Arrays(task.store, cache_bytes=64 << 20)
    with ExitStack() as stack:
        volumes = [
            RawVolume(
                _watched(stack.enter_context(open_voxels(volume, arrays, task.callback, reporter)), reporter),
                volume.shape,
                SliceStatistics(np.array(volume.mean), np.array(volume.std)),
                factor,
            )
            for volume, factor in task.volumes.values()
        ]

        def work(resume_from: Checkpoint | None) -> PretrainedModel:
            return pretrain(
                config,
                chosen.mask,
                volumes,
                seed=task.seed,
                resume_from=resume_from,
                on_progress=attempt.on_progress,
                on_checkpoint=attempt.on_checkpoint,
                should_stop=attempt.should_stop,
                group=group,
            )

        found = attempt.resumed(work)
    reporter.check()
    if group is not None and group.rank:
        return None
    numbers = {"steps": float(found.steps), "seconds": found.seconds, "final_loss": found.final_loss}
    plain = dataclasses.asdict(config) | {"seed": task.seed, "mask": dataclasses.asdict(chosen.mask)}
    plain["volumes"] = [volume.name for volume, _ in task.volumes.values()]
    bundle = ModelBundle(
        name=task.display_name or "BioSegment pretrained network",
        version="1.0.0",
        model=found.model,
        working_resolution_nm=task.working_resolution_nm,
        lineage=ModelLineage("", (), plain, dict(numbers)),
    )
    digest = write_model(bundle, objects, task.bundle_key, reporter)
    return TrainedBundle(
        digest, found.model.network.label, plain, numbers, ("pretrained: a parent without classes",)
    )


def _watched(voxels: VoxelReader, reporter: Reporter) -> Callable[[Region], NDArray[np.generic]]:
    def read(region: Region) -> NDArray[np.generic]:
        reporter.check()
        return voxels.read(region)

    return read
