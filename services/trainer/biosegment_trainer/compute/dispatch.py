"""What the handlers of all kinds of jobs share: the way to a worker and back."""

from __future__ import annotations

from dataclasses import dataclass

from biosegment.auth import Kind, Principal, PrincipalSigner
from biosegment.jobs import JobCancelled, JobContext
from biosegment.settings import ObjectStoreSettings
from biosegment_trainer.compute.executor import Executor
from biosegment_trainer.compute.task import Callback, Outcome, Task, VolumeArray
from biosegment_trainer.datastore_client import DatastoreClient, VolumeView


@dataclass(slots=True)
class Dispatch:
    """Makes workers' credentials and runs their tasks.

    Attributes:
        executor: Where tasks run.
        signer: Signs the credential of each job.
        store: Object storage for workers.
        threads: CPU threads of a worker.
        timeout_s: Longest time of a task.
        address: Where workers reach this process; set once it listens.
    """

    executor: Executor
    signer: PrincipalSigner
    store: ObjectStoreSettings
    threads: int
    timeout_s: float
    address: str = ""

    def callback(self, context: JobContext, first: float = 0.0, last: float = 1.0) -> Callback:
        """How the worker of this attempt reports; its task is the part `first` to `last` of the job."""
        principal = Principal(Kind.JOB, context.job.job_id)
        token = self.signer.sign(principal, self.signer.issuer, self.timeout_s)
        return Callback(self.address, token, context.job.job_id, context.attempt, first, last)

    async def run(self, context: JobContext, task: Task) -> Outcome:
        """Run a task; raises JobCancelled, JobCrashed or the worker's error."""
        context.raise_if_cancelled()
        outcome = await self.executor.run(task, context.job.resources, context.cancelled, self.timeout_s)
        if outcome.cancelled:
            raise JobCancelled
        if outcome.error is not None:
            raise outcome.error
        return outcome


async def volume_array(datastore: DatastoreClient, volume: VolumeView) -> VolumeArray:
    """What a worker needs to read a volume."""
    mean, std = await datastore.statistics(volume.name)
    return VolumeArray(volume.name, volume.key, volume.shape, volume.voxel_bytes, mean, std)
