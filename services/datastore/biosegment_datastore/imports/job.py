"""Jobs that import volumes."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from biosegment.auth import Principal
from biosegment.errors import BiosegmentError, NotFound
from biosegment.failpoint import failpoint
from biosegment.ids import new_id
from biosegment.jobs import JobContext, JobResult, Progress
from biosegment.jobs.runner import AWAY
from biosegment.settings import ObjectStoreSettings
from biosegment.volume import Index, VoxelSize
from biosegment_datastore.clock import now_us
from biosegment_datastore.convert_job import ImportPlan, import_plan
from biosegment_datastore.imports.file import ImportFiles
from biosegment_datastore.imports.progress import progress_key
from biosegment_datastore.reference import Reference
from biosegment_datastore.sql.project import SqlProjects
from biosegment_datastore.sql.transfer import SqlGarbage, owner_of
from biosegment_datastore.sql.volume import SqlVolumes, volume_exists
from biosegment_datastore.volume import DisplayWindow, Level, SliceStatistics, Volume
from biosegment_datastore.worker_process import WorkerLimits, run_task, store_values


@dataclass(frozen=True, slots=True)
class ImportJob:
    """Checks and runs imports.

    Attributes:
        projects: Where volumes belong.
        volumes: Where the result is entered, when it is complete.
        garbage: Knows the unfinished results of every attempt.
        files: What is read.
        store: Where the voxels go.
        limits: Of the process that parses a file.
    """

    projects: SqlProjects
    volumes: SqlVolumes
    garbage: SqlGarbage
    files: ImportFiles
    store: ObjectStoreSettings
    limits: WorkerLimits

    async def prepare(self, principal: Principal, project_id: str, spec: bytes) -> bytes:
        """Check a spec and fill in the volume's id; errors as CreateJob answers them."""
        plan = import_plan(spec)
        upload_id = plan.require_upload_of(project_id) if plan.upload_id else ""
        # An administrator needs no membership, so that nobody has looked yet whether there is such a project.
        await self.projects.get(project_id)
        await self.files.require(principal, project_id, plan.uri, upload_id)
        if plan.volume_id and await self.volumes.exists(project_id, plan.volume_id):
            raise volume_exists(f"projects/{project_id}/volumes/{plan.volume_id}")
        return plan.completed(plan.volume_id or new_id())

    async def run(self, context: JobContext) -> JobResult:
        """One attempt. What it leaves unfinished is for the next one, and garbage when there is none."""
        job = context.job
        plan = import_plan(job.spec)
        # The key tells whose volume it is: an attempt that died after it had entered one has done the work.
        ours = f"volumes/{job.job_id.rpartition('-')[2]}-"
        volume = await self._entered(job.project_id, plan.volume_id, ours)
        if volume is None:
            volume = await self._make(context, plan, f"{ours}{context.attempt}.ome.zarr")
        await self.files.objects.delete(progress_key(volume.key))
        await self.files.used(job.project_id, plan.upload_id)
        return JobResult(volume=volume.name)

    async def _entered(self, project_id: str, volume_id: str, prefix: str) -> Volume | None:
        try:
            found = await self.volumes.get(project_id, volume_id)
        except NotFound:
            return None
        return found if found.key.startswith(prefix) else None

    async def _make(self, context: JobContext, plan: ImportPlan, fresh: str) -> Volume:
        job_id, attempt = context.job.job_id, context.attempt
        # It may have been deleted while the job waited: not worth finding out when all is copied.
        await self.projects.get(context.job.project_id)
        prefix = await self.garbage.take_over(job_id, attempt, fresh)
        try:
            async with self.files.file(context, plan.uri, plan.upload_id) as (path, file_name):
                made = await self._copy(context, plan, path, file_name, prefix)
            volume = _volume(context, plan, made, prefix, file_name)
            failpoint("datastore.import.before_row")
            statistics = SliceStatistics(tuple(made["mean"]), tuple(made["std"]))
            await self.volumes.create(volume, statistics, owner_of(job_id, attempt))
        except Exception as error:
            # Otherwise the job goes on in another attempt, from where this one ended.
            if not (isinstance(error, BiosegmentError) and error.reason in AWAY):
                await asyncio.shield(self.garbage.abandon(owner_of(job_id, attempt)))
            raise
        return volume

    async def _copy(
        self, context: JobContext, plan: ImportPlan, path: Path, file_name: str, prefix: str
    ) -> dict[str, Any]:
        async def report(done: int, total: int) -> None:
            failpoint("datastore.import.slab_written")
            failpoint(f"datastore.import.slice_{done}")
            await context.progress(Progress(done / max(total, 1) * 0.99, "importing", done, total, "slices"))

        task = {
            "kind": "import",
            "store": store_values(self.store),
            "path": str(path),
            "prefix": prefix,
            "name": plan.display_name or file_name,
            "voxel_size_nm": list(plan.voxel_size) if plan.voxel_size else None,
            "options": replace(plan.options, scratch_dir=self.files.scratch_dir).written(),
            "reference": plan.reference,
            "upload": plan.upload_id,
        }
        await context.log(f"importing {file_name!r}")
        made = await run_until_cancelled(context, run_task(task, self.limits, report, context.log))
        await context.log(
            f"{made['format']}, shape {tuple(made['shape'])}, {made['data_type']}, voxels {made['voxel_size_nm']} nm, "
            f"{len(made['levels'])} levels"
        )
        return made


async def run_until_cancelled(context: JobContext, work: Any) -> dict[str, Any]:
    """Await a task, but end it (and its process) when the job should stop."""
    task = asyncio.ensure_future(work)
    stop = asyncio.ensure_future(context.cancelled.wait())
    try:
        await asyncio.wait({task, stop}, return_when=asyncio.FIRST_COMPLETED)
        if not task.done():
            context.raise_if_cancelled()
        return dict(await task)
    finally:
        for each in (task, stop):
            each.cancel()
        await asyncio.gather(task, stop, return_exceptions=True)


def _volume(
    context: JobContext, plan: ImportPlan, made: dict[str, Any], prefix: str, file_name: str
) -> Volume:
    low, high = made.get("display_window") or (made["minimum"], made["maximum"])
    now = now_us()
    return Volume(
        project_id=context.job.project_id,
        id=plan.volume_id,
        display_name=plan.display_name or file_name,
        shape=Index(*made["shape"]),
        data_type=made["data_type"],
        voxel_size=VoxelSize(*made["voxel_size_nm"]),
        levels=tuple(
            Level(Index(*level["shape"]), Index(*level["downsampling"]), level["path"])
            for level in made["levels"]
        ),
        key=prefix,
        source=file_name,
        display_window=DisplayWindow(low, high if high > low else low + 1),
        creator=context.job.owner,
        create_time_us=now,
        update_time_us=now,
        reference=Reference.read(made["reference"]) if "reference" in made else None,
    )
