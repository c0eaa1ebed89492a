"""The workers that a job's blocks are shared by."""

from __future__ import annotations

from dataclasses import dataclass

from biosegment.jobs import Job, Resources
from biosegment_trainer.compute.cluster import Cluster
from biosegment_trainer.convert import asked_resources


@dataclass(frozen=True, slots=True)
class Crew:
    """What an operator says of them.

    Attributes:
        most: Workers of one job; 0 for as many as there is room for.
        cpus: Of each; 0 leaves that to the job, and to what it is divided into.
    """

    most: int
    cpus: int

    async def worker(self, cluster: Cluster, job: Job, blocks: int) -> Resources:
        """What each worker of a job with so many blocks reserves."""
        if self.cpus or asked_resources(job.spec).cpus:
            return job.resources
        return await cluster.worker(job.resources, min(blocks, self.most or blocks))
