"""The warm process on a GPU of the cluster: an actor on Ray. Importing this module loads neither torch nor Ray."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING, Any, Final

from biosegment.errors import BiosegmentError, Unavailable
from biosegment.jobs import JobCrashed
from biosegment_trainer.compute.cluster import INTERACTION_SHARE
from biosegment_trainer.compute.ray_executor import HeldCluster, RayExecutor
from biosegment_trainer.interaction.child import answer
from biosegment_trainer.interaction.task import LabelTask, SegmentAnswer, SegmenterConfig, SegmentTask

if TYPE_CHECKING:
    from biosegment_trainer.interaction.engine import Engine

_READY_WITHIN_S: Final = 120.0


class SegmentActor:
    """Answers one request after the other, with models that stay loaded.

    Args:
        config: Of the engine.
    """

    def __init__(self, config: SegmenterConfig) -> None:
        from biosegment_trainer.interaction.engine import Engine

        self._engine: Engine = Engine(config)

    def ready(self) -> bool:
        """Answers when the process has loaded what it needs."""
        return True

    def segment(self, task: SegmentTask | LabelTask) -> object:
        """A `SegmentAnswer`, or the error."""
        return answer(self._engine, task)


class RaySegmenter:
    """`Segmenter` as an actor on Ray, with a sliver of a GPU beside trainings and predictions.

    The connection to Ray is held as long as the actor lives.

    Args:
        config: Of the actor.
        executor: Connects to Ray.
    """

    def __init__(self, config: SegmenterConfig, executor: RayExecutor) -> None:
        self._config = config
        self._executor = executor
        self._held: AsyncExitStack | None = None
        self._cluster: HeldCluster | None = None
        self._actor: Any = None

    async def segment(self, task: SegmentTask | LabelTask) -> SegmentAnswer:
        """As `Segmenter.segment`."""
        actor, cluster = await self._started()
        try:
            found = await self._outcome(cluster, await cluster.call(lambda ray: actor.segment.remote(task)))
        except JobCrashed as error:
            await self.close()
            raise Unavailable("SEGMENTER_DIED", f"{error}; try again") from error
        except BaseException:
            await self.close()
            raise
        if isinstance(found, BiosegmentError):
            raise found
        assert isinstance(found, SegmentAnswer)
        return found

    async def warm(self) -> None:
        """As `Segmenter.warm`."""
        await self._started()

    async def close(self) -> None:
        """As `Segmenter.close`."""
        actor, cluster, held = self._actor, self._cluster, self._held
        self._actor = self._cluster = self._held = None
        if held is None:
            return
        try:
            if actor is not None and cluster is not None:
                await cluster.call(lambda ray: ray.kill(actor, no_restart=True))
        except JobCrashed:
            pass  # with the cluster it is gone
        finally:
            await held.aclose()

    async def _started(self) -> tuple[Any, HeldCluster]:
        if self._actor is not None and self._cluster is not None and not self._cluster.lost.is_set():
            return self._actor, self._cluster
        await self.close()
        self._held = AsyncExitStack()
        try:
            self._cluster = cluster = await self._held.enter_async_context(self._executor.cluster())
            options = {
                "num_cpus": 0,
                "num_gpus": INTERACTION_SHARE,
                "max_restarts": 0,
                "max_task_retries": 0,
            }
            config = self._config
            self._actor = actor = await cluster.call(
                lambda ray: ray.remote(SegmentActor).options(**options).remote(config)
            )
            async with asyncio.timeout(_READY_WITHIN_S):
                await self._outcome(cluster, await cluster.call(lambda ray: actor.ready.remote()))
        except TimeoutError as error:
            await self.close()
            raise Unavailable(
                "SEGMENTER_UNAVAILABLE",
                "no node of the cluster has room on a GPU for the actor that segments",
            ) from error
        except JobCrashed as error:
            await self.close()
            raise Unavailable(
                "SEGMENTER_UNAVAILABLE", f"the actor that segments does not start: {error}"
            ) from error
        except BaseException:
            await self.close()
            raise
        return actor, cluster

    async def _outcome(self, cluster: HeldCluster, reference: Any) -> object:
        result = asyncio.ensure_future(asyncio.wrap_future(reference.future()))
        lost = asyncio.ensure_future(cluster.lost.wait())
        try:
            await asyncio.wait({result, lost}, return_when=asyncio.FIRST_COMPLETED)
            if not result.done():
                raise Unavailable("SEGMENTER_DIED", "Ray stopped over the request; try again")
            error = result.exception()
            if error is not None:
                raise Unavailable(
                    "SEGMENTER_DIED", f"the actor that segments died over the request: {str(error)[:300]}"
                ) from error
            return result.result()
        finally:
            result.cancel()
            lost.cancel()
