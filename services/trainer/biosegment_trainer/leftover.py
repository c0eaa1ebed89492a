"""What unfinished jobs leave: checkpoints, ledgers, layers, and bundles that nobody registered.

A cancelled job's go at once, a succeeded one's with its result. A failed job's stay for a while, so that a retry goes
on where it stopped. Whatever an accident left, or an orphan wrote after its job had ended, is found in the next round.
"""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from typing import Final

import structlog

from biosegment.errors import BiosegmentError, NotFound
from biosegment.jobs import Job, JobState, SqlJobs
from biosegment.storage.objects import Objects
from biosegment_trainer.prediction.ledger import noted_layers
from biosegment_trainer.registry.model import bundle_key
from biosegment_trainer.sql import SqlModels

_EVERY_S: Final = 60.0
_BUNDLES_EVERY_S: Final = 3600.0
"""All models are listed for it."""
_OF_ATTEMPT: Final = re.compile(r"([0-9a-z]+)-\d+")
_log = structlog.get_logger("biosegment_trainer.leftover")


class Leftovers:
    """Removes them.

    Args:
        objects: The store.
        jobs: The trainer's jobs.
        models: Which bundles are registered.
        drop_layer: Deletes a layer, by its name, unless it was committed or is gone.
        keep_failed_s: How long a failed job may be gone on with.
    """

    def __init__(
        self,
        objects: Objects,
        jobs: SqlJobs,
        models: SqlModels,
        drop_layer: Callable[[str], Awaitable[None]],
        keep_failed_s: float,
    ) -> None:
        self._objects = objects
        self._drop_layer = drop_layer
        self._jobs = jobs
        self._models = models
        self._keep_failed = timedelta(seconds=keep_failed_s)

    async def run(self) -> None:
        """Look for some now and then, until cancelled."""
        bundles_at = time.monotonic()
        while True:
            try:
                if time.monotonic() >= bundles_at:
                    await self.sweep_bundles()
                    bundles_at = time.monotonic() + _BUNDLES_EVERY_S
                await self.sweep()
            except BiosegmentError as error:
                _log.warning("sweep_failed", reason=error.reason, message=error.message)
            await asyncio.sleep(_EVERY_S)

    async def sweep(self) -> int:
        """Remove those of all jobs that have no use for them any more; returns of how many."""
        removed = 0
        for job_id in sorted({key.split("/")[1] for key in await self._objects.list("jobs/")}):
            try:
                job = await self._jobs.get(job_id)
            except NotFound:
                # The row comes first, so it has been there: the database is that of an older backup.
                await self._objects.delete_prefix(f"jobs/{job_id}/")
                removed += 1
                continue
            if self._is_due(job):
                await self.remove(job)
                removed += 1
        return removed

    async def sweep_bundles(self) -> int:
        """Remove bundles that orphans wrote after their job had ended; returns how many. It lists all models."""
        removed = 0
        for model_id in sorted({key.split("/")[1] for key in await self._objects.list("models/")}):
            match = _OF_ATTEMPT.fullmatch(model_id)
            if match is None:
                continue
            try:
                job = await self._jobs.get(f"{self._jobs.service}-{match[1]}")
            except NotFound:
                continue
            registered = await self._models.of_job(job.name)
            if job.state.is_final and (registered is None or registered.model_id != model_id):
                await self._objects.delete_prefix(f"{bundle_key(model_id)}/")
                removed += 1
        return removed

    async def remove(self, job: Job) -> None:
        """Remove what a job left that will not be gone on with; what it registered stays."""
        registered = await self._models.of_job(job.name)
        ulid = job.job_id.partition("-")[2]
        for attempt in range(1, job.attempt + 1):
            model_id = f"{ulid}-{attempt}"
            if registered is None or registered.model_id != model_id:
                await self._objects.delete_prefix(f"{bundle_key(model_id)}/")
        for name in await noted_layers(self._objects, job.job_id):
            await self._drop_layer(name)
        # Last: it is what a later round finds the job by.
        await self._objects.delete_prefix(f"jobs/{job.job_id}/")

    def _is_due(self, job: Job) -> bool:
        if job.state is JobState.FAILED:
            return job.end_time is not None and job.end_time + self._keep_failed < datetime.now(UTC)
        return job.state.is_final
