"""What the handlers of all kinds of jobs share: the way to a worker and back."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, replace
from typing import Final

from biosegment.auth import Kind, Principal, PrincipalSigner
from biosegment.errors import Unavailable
from biosegment.jobs import JobCancelled, JobContext, JobCrashed, SqlJobs
from biosegment.settings import ObjectStoreSettings
from biosegment_trainer.compute.cluster import Cluster
from biosegment_trainer.compute.executor import Executor
from biosegment_trainer.compute.task import Callback, Outcome, Task, VolumeArray
from biosegment_trainer.datastore_client import DatastoreClient, VolumeView

_FIRST_PAUSE_S: Final = 1.0
_LONGEST_PAUSE_S: Final = 30.0
_LOCAL_TRIES: Final = 3
_LISTEN_EVERY_S: Final = 1.0


@dataclass(slots=True)
class Dispatch:
    """Makes workers' credentials and runs their tasks.

    Attributes:
        executor: Where tasks run.
        signer: Signs the credential of each job.
        store: Object storage for workers.
        threads: CPU threads of a worker.
        timeout_s: Longest time of a task.
        jobs: Rows, which workers' reports change.
        silence_s: A worker that is not heard of for so long is given up.
        address: Where workers reach this process; set once it listens.
    """

    executor: Executor
    signer: PrincipalSigner
    store: ObjectStoreSettings
    threads: int
    timeout_s: float
    jobs: SqlJobs
    silence_s: float
    address: str = ""

    def callback(self, context: JobContext, first: float = 0.0, last: float = 1.0) -> Callback:
        """How the worker of this attempt reports; its task is the part `first` to `last` of the job."""
        principal = Principal(Kind.JOB, context.job.job_id)
        token = self.signer.sign(principal, self.signer.issuer, self.timeout_s)
        return Callback(self.address, token, context.job.job_id, context.attempt, first, last)

    async def run(self, context: JobContext, task: Task) -> Outcome:
        """Run a task with what the job reserves; raises JobCancelled, JobCrashed or the worker's error."""
        reserved = context.job.resources
        task = replace(task, threads=reserved.cpus or self.threads)
        async with self.cluster(context):
            running = asyncio.ensure_future(
                self.executor.run(task, reserved, context.cancelled, self.timeout_s)
            )
            try:
                await self._listened(context, running)
                outcome = await running
            finally:
                running.cancel()
                await asyncio.wait({running})
        if outcome.cancelled:
            raise JobCancelled
        if outcome.error is not None:
            raise outcome.error
        return outcome

    async def _listened(self, context: JobContext, running: asyncio.Future[Outcome]) -> None:
        """Return when the task has ended; JobCrashed when its worker, once heard of, is silent for too long.

        Ray says when a worker or a node dies, but not when one is frozen or cut off: its calls just never return.
        """
        began = heard = (await self.jobs.get(context.job.job_id)).revision
        silent_s = 0.0
        while not running.done():
            await asyncio.wait({running}, timeout=_LISTEN_EVERY_S)
            try:
                revision = (await self.jobs.get(context.job.job_id)).revision
            except Unavailable:
                continue
            # Counted in rounds of this loop: a process that was itself stopped for a while has missed nothing.
            silent_s = silent_s + _LISTEN_EVERY_S if revision == heard else 0.0
            heard = revision
            # Before its first word it may wait for a node.
            if silent_s >= self.silence_s and heard > began and not running.done():
                raise JobCrashed(f"the worker has not been heard of for {silent_s:.0f} s", lost=True)

    @asynccontextmanager
    async def cluster(self, context: JobContext) -> AsyncIterator[Cluster]:
        """Hold the cluster, and wait for one that is away rather than use up the job's attempts.

        Raises:
            JobCancelled: The job should stop.
            JobCrashed: Ray does not start on this machine.
        """
        async with AsyncExitStack() as stack:
            tries, pause_s, said = 0, _FIRST_PAUSE_S, ""
            while True:
                context.raise_if_cancelled()
                try:
                    await self._connected(context)
                    cluster = await stack.enter_async_context(self.executor.cluster())
                    break
                except Unavailable as error:
                    tries += 1
                    if self.executor.is_local and tries >= _LOCAL_TRIES:
                        raise JobCrashed(error.message) from error
                    if error.message != said:
                        said = error.message
                        await context.log(f"waiting for Ray: {said}")
                    with contextlib.suppress(TimeoutError):
                        async with asyncio.timeout(pause_s):
                            await context.cancelled.wait()
                    pause_s = min(2 * pause_s, _LONGEST_PAUSE_S)
            yield cluster

    async def _connected(self, context: JobContext) -> None:
        """Connect; a cancelled job does not wait for the end of an attempt, which may take a minute."""
        connecting = asyncio.ensure_future(self.executor.connect())
        stop = asyncio.ensure_future(context.cancelled.wait())
        try:
            await asyncio.wait({connecting, stop}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            stop.cancel()
            # Its thread goes on, for the next who asks.
            connecting.cancel()
        context.raise_if_cancelled()
        connecting.result()


async def volume_array(datastore: DatastoreClient, volume: VolumeView) -> VolumeArray:
    """What a worker needs to read a volume."""
    mean, std = await datastore.statistics(volume.name)
    return VolumeArray(volume.name, volume.key, volume.shape, volume.voxel_bytes, mean, std)
