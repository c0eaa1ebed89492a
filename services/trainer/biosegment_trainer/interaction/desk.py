"""Which process segments: a child of the trainer on CPUs, or an actor where there is a GPU."""

from __future__ import annotations

from typing import Final, Literal

import structlog

from biosegment.errors import Unavailable
from biosegment.jobs import JobCrashed
from biosegment_trainer.compute.ray_executor import RayExecutor
from biosegment_trainer.interaction.actor import RaySegmenter
from biosegment_trainer.interaction.ports import Segmenter
from biosegment_trainer.interaction.process import ProcessSegmenter
from biosegment_trainer.interaction.task import LabelTask, SegmentAnswer, SegmenterConfig, SegmentTask

Device = Literal["auto", "cpu", "ray"]
_log: Final = structlog.get_logger("biosegment_trainer.interaction")


def open_segmenter(
    device: Device, config: SegmenterConfig, memory_bytes: int, executor: RayExecutor
) -> Segmenter:
    """A segmenter that starts when it is needed."""
    process = ProcessSegmenter(config, memory_bytes)
    if device == "cpu":
        return process
    actor = RaySegmenter(config, executor)
    return actor if device == "ray" else WhereverSegmenter(actor, process, executor)


class WhereverSegmenter:
    """`Segmenter` that asks, whenever it starts, whether any node has a GPU.

    Args:
        actor: Taken where one has.
        process: Taken else, and when Ray cannot be had.
        executor: Knows the nodes.
    """

    def __init__(self, actor: Segmenter, process: Segmenter, executor: RayExecutor) -> None:
        self._actor = actor
        self._process = process
        self._executor = executor
        self._chosen: Segmenter | None = None

    async def segment(self, task: SegmentTask | LabelTask) -> SegmentAnswer:
        """As `Segmenter.segment`."""
        await self.warm()
        assert self._chosen is not None
        return await self._chosen.segment(task)

    async def warm(self) -> None:
        """As `Segmenter.warm`."""
        if self._chosen is None:
            self._chosen = self._actor if await self._has_gpu() else self._process
        try:
            await self._chosen.warm()
        except Unavailable as error:
            if self._chosen is self._process:
                raise
            _log.warning("segmenter_on_cpu", reason=error.reason, message=error.message)
            self._chosen = self._process
            await self._chosen.warm()

    async def close(self) -> None:
        """As `Segmenter.close`."""
        self._chosen = None
        await self._actor.close()
        await self._process.close()

    async def _has_gpu(self) -> bool:
        try:
            return any(node.gpus for node in await self._executor.nodes())
        except (Unavailable, JobCrashed):
            return False
