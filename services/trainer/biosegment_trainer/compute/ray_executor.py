"""Tasks on Ray, which is imported, and started on this machine or connected to, when it is first needed.

It is left again when nobody has used it for a while, so that idle workers hold no memory.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from typing import Any, Final, TypeVar

import structlog

from biosegment.errors import DeadlineExceeded, Internal
from biosegment.jobs import JobCrashed, Resources
from biosegment_trainer.compute.cluster import (
    STARTER_SHARE,
    TRAINING_SHARE,
    failure,
    ray_options,
)
from biosegment_trainer.compute.ray_connection import RayConnection, RaySettings
from biosegment_trainer.compute.task import Outcome, Task
from biosegment_trainer.compute.worker import run

_T = TypeVar("_T")
_STOP_WITHIN_S: Final = 2.5
"""A worker hears of a cancellation with its next report, 0.7 s later at most, and has this long to stop by itself."""
_WATCH_EVERY_S: Final = 1.0
_log = structlog.get_logger("biosegment_trainer.ray")


class RayExecutor:
    """`Executor` on Ray. All calls into Ray that may block run in one thread of their own."""

    def __init__(self, settings: RaySettings) -> None:
        self._connection = RayConnection(settings)
        self._idle_s = settings.idle_s
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="ray")
        self._holders = 0
        self._idle: asyncio.TimerHandle | None = None
        self._stopping: set[asyncio.Task[None]] = set()

    @property
    def is_local(self) -> bool:
        """As `Executor.is_local`."""
        return self._connection.is_local

    async def run(
        self, task: Task, resources: Resources, cancelled: asyncio.Event, timeout_s: float
    ) -> Outcome:
        """As `Executor.run`."""
        options = ray_options(resources, TRAINING_SHARE) | {"max_retries": 0}
        if task.workers > 1:
            # It only starts the processes that need something, where there is a GPU.
            options = {"num_cpus": 0, "num_gpus": STARTER_SHARE if resources.gpus else 0, "max_retries": 0}
        async with self.cluster() as cluster:
            reference = await cluster.call(lambda ray: ray.remote(run).options(**options).remote(task))
            return await self._outcome(cluster, reference, cancelled, timeout_s)

    async def connect(self) -> None:
        """As `Executor.connect`."""
        async with self.cluster():
            pass

    @asynccontextmanager
    async def cluster(self) -> AsyncIterator[HeldCluster]:
        """As `Executor.cluster`."""
        self._holders += 1
        if self._idle is not None:
            self._idle.cancel()
        try:
            held = HeldCluster(self, self._connection, await self._call(self._connection.connect))
            watch = asyncio.create_task(held.watch())
            try:
                yield held
            finally:
                watch.cancel()
        finally:
            self._holders -= 1
            if not self._holders and self._idle_s:
                self._idle = asyncio.get_running_loop().call_later(self._idle_s, self._leave)

    async def nodes(self) -> tuple[Resources, ...]:
        """As `Executor.nodes`."""
        if self._connection.is_local:
            return (self._connection.machine,)
        async with self.cluster() as cluster:
            return await cluster.nodes()

    async def sweep(self) -> None:
        """End what a local Ray of an earlier process of this trainer left behind."""
        await self._call(self._connection.sweep)

    async def close(self) -> None:
        """Stop a local Ray, or leave the cluster."""
        if self._idle is not None:
            self._idle.cancel()
        await self._call(self._connection.close)
        self._thread.shutdown(wait=False)

    async def _call(self, function: Callable[[], _T]) -> _T:
        return await asyncio.get_running_loop().run_in_executor(self._thread, function)

    def _leave(self) -> None:
        task = asyncio.create_task(self._call(lambda: None if self._holders else self._connection.leave()))
        self._stopping.add(task)
        task.add_done_callback(self._stopping.discard)

    async def _outcome(
        self, cluster: HeldCluster, reference: Any, cancelled: asyncio.Event, timeout_s: float
    ) -> Outcome:
        result = asyncio.ensure_future(asyncio.wrap_future(reference.future()))
        stop, lost = asyncio.ensure_future(cancelled.wait()), asyncio.ensure_future(cluster.lost.wait())
        try:
            await asyncio.wait({result, stop, lost}, timeout=timeout_s, return_when=asyncio.FIRST_COMPLETED)
            timed_out = not (result.done() or stop.done() or lost.done())
            if stop.done() and not result.done():
                await asyncio.wait(
                    {result, lost}, timeout=_STOP_WITHIN_S, return_when=asyncio.FIRST_COMPLETED
                )
            if not result.done() and not lost.done():
                await self._kill(cluster, reference)
            if timed_out:
                raise DeadlineExceeded(
                    "JOB_TOO_SLOW", f"the job took longer than the {timeout_s:g} s that the trainer allows"
                )
            if stop.done() and not (result.done() and result.exception() is None):
                return Outcome(cancelled=True)
            if not result.done():
                raise cluster.gone()
            return self._result(cluster, result)
        except asyncio.CancelledError:
            await self._kill(cluster, reference)
            raise
        finally:
            for waiting in (stop, lost, result):
                waiting.cancel()

    async def _kill(self, cluster: HeldCluster, reference: Any) -> None:
        try:
            await cluster.call(lambda ray: ray.cancel(reference, force=True))
        except Exception as error:
            _log.warning("ray_cancel_failed", error=str(error))

    def _result(self, cluster: HeldCluster, result: asyncio.Future[Any]) -> Outcome:
        error = result.exception()
        if error is None:
            outcome: Outcome = result.result()
            return outcome
        if isinstance(error, cluster.ray.exceptions.TaskCancelledError):
            return Outcome(cancelled=True)
        meaning = failure(cluster.ray, error)
        if isinstance(meaning, Internal):
            _log.error("task_failed", exc_info=error)
        raise meaning


class HeldCluster:
    """`Cluster`, as long as it is held.

    Attributes:
        ray: The module, connected. Call what may block through `call`.
        lost: Set when the cluster is gone.
        predictions: As `Cluster.predictions`.
    """

    def __init__(self, executor: RayExecutor, connection: RayConnection, ray: Any) -> None:
        self.ray = ray
        self.lost = asyncio.Event()
        self.predictions = connection.room.predictions
        self._executor = executor
        self._connection = connection
        self._generation = connection.generation

    async def call(self, function: Callable[[Any], _T]) -> _T:
        """As `Cluster.call`."""

        def guarded() -> _T:
            if self._connection.generation != self._generation:
                raise self.gone()
            try:
                return function(self.ray)
            except ConnectionError as error:
                raise self.gone() from error

        return await self._executor._call(guarded)

    async def nodes(self) -> tuple[Resources, ...]:
        """As `Cluster.nodes`."""
        if self._connection.is_local:
            return (self._connection.machine,)
        return await self.call(self._connection.nodes)

    async def workers(self, resources: Resources) -> int:
        """As `Cluster.workers`."""
        return self._connection.room.workers(resources, await self.nodes())

    async def worker(self, job: Resources, most: int) -> Resources:
        """As `Cluster.worker`."""
        return self._connection.room.worker(job, most, await self.nodes())

    def gone(self) -> JobCrashed:
        """What a job that used it ends with."""
        return JobCrashed("Ray stopped, with everything that ran on it", lost=True)

    async def watch(self) -> None:
        """Set `lost` once the cluster does not answer any more; until cancelled."""
        while await self._connection.answers():
            if self._connection.generation != self._generation:
                break
            await asyncio.sleep(_WATCH_EVERY_S)
        self.lost.set()
        # At once: a client that still looks for its cluster ends its own process after a minute.
        await self._executor._call(lambda: self._connection.give_up(self._generation))
