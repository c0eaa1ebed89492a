"""Instances without Ray: real workers on a real object store in a folder."""

from __future__ import annotations

import contextlib
import random
from pathlib import Path

import numpy as np
from biosegment_trainer.compute.task import Callback
from biosegment_trainer.instances.block import BlockCut
from biosegment_trainer.instances.separation import COMPONENTS, MAX_OBJECTS, WATERSHED, Separation
from biosegment_trainer.instances.task import InstancesTask, SourceArray, Stage
from biosegment_trainer.instances.worker import InstancesWorker
from numpy.typing import NDArray

from biosegment.errors import AlreadyExists
from biosegment.settings import ObjectStoreSettings
from biosegment.storage.arrays import Arrays
from biosegment.storage.layout import ArrayLayout
from biosegment.storage.objects import open_blocking_objects
from biosegment.volume import Index, Region


class Bench:
    """A layer of labels (2 is the class) and what an instances job makes of it."""

    def __init__(self, folder: Path, labels: NDArray[np.uint8], block: tuple[int, int, int]) -> None:
        self.store = ObjectStoreSettings(object_store_url=f"file://{folder}")
        self.arrays = Arrays(self.store, sync=False)
        self.labels = labels
        self.shape = labels.shape
        self.layout = ArrayLayout(block, block)
        self.block = Index(*block)
        self.source = self.put("source", labels)
        self.runs = 0

    def put(self, key: str, values: NDArray[np.generic]) -> SourceArray:
        array = self.arrays.create(key, values.shape, values.dtype, layout=self.layout)
        array.write(Region.of_shape(values.shape), values)
        return SourceArray(key, 2, 2, False)

    def task(self, separation: Separation, region: Region | None = None, **fields: object) -> InstancesTask:
        self.runs += 1
        task = InstancesTask(
            store=self.store,
            callback=Callback("127.0.0.1:1", "nobody", f"trainer-{self.runs}", 1),
            source=self.source,
            boundary=None,
            target=f"instances-{self.runs}",
            cut=BlockCut(Index(*self.shape), self.block, region or Region.of_shape(self.shape)),
            separation=separation,
        )
        for name, value in fields.items():
            object.__setattr__(task, name, value)
        self.create(task)
        return task

    def create(self, task: InstancesTask) -> None:
        """The arrays that the job makes, those of an earlier attempt kept."""
        for key in [task.ids_key(Stage.LABEL), task.ids_key(Stage.FLOOD), task.target]:
            with contextlib.suppress(AlreadyExists):
                self.arrays.create(key, self.shape, np.uint32, layout=self.layout)

    def go_on(self, task: InstancesTask) -> NDArray[np.uint32]:
        """What another attempt does: only what is not done."""
        objects, worker = open_blocking_objects(self.store), InstancesWorker(task)
        for stage in task.stages:
            for number in task.numbers(stage):
                if not objects.exists(task.done_key(stage, number)):
                    worker.compute(stage, number)
        return self.read(task)

    def run(
        self, task: InstancesTask, *, workers: int = 1, seed: int = 0, max_objects: int = MAX_OBJECTS
    ) -> NDArray[np.uint32]:
        """All stages, with the blocks in an order of their own, by several workers in turn."""
        order = random.Random(seed)
        staff = [InstancesWorker(task, max_objects=max_objects) for _ in range(workers)]
        for stage in task.stages:
            numbers = list(task.numbers(stage))
            order.shuffle(numbers)
            for place, number in enumerate(numbers):
                staff[place % workers].compute(stage, number)
        return self.read(task)

    def read(self, task: InstancesTask) -> NDArray[np.uint32]:
        return self.arrays.open(task.target).read(Region.of_shape(self.shape))


def components_of(connectivity: int, min_size: int = 0) -> Separation:
    return Separation(COMPONENTS, connectivity, min_size)


def watershed_of(
    distance: float, spacing: tuple[float, float, float] = (1.0, 1.0, 1.0), min_size: int = 0
) -> Separation:
    return Separation(WATERSHED, 26, min_size, distance, spacing)
