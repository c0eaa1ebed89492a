"""Trainings, scorings and predictions of many images, as the tasks that MONAI Label clients start, watch and stop.

A training or scoring is a job of the platform, and that is all there is to remember of it; also one that the platform
began by itself is seen. A prediction of many images is a job for each volume, and a record that names them.
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Final

from biosegment.api.job.v1alpha1 import job_pb2
from biosegment.auth import Principal
from biosegment.errors import FailedPrecondition, InvalidArgument, NotFound, ResourceExhausted
from biosegment.rpc.geometry import region_to_proto
from biosegment.volume import Index, Region
from biosegment_gateway.monailabel.dataset import Dataset
from biosegment_gateway.monailabel.geometry import LengthUnit
from biosegment_gateway.monailabel.project import Project, Projects
from biosegment_gateway.monailabel.record import FINAL, ORIGINAL, LabelRecord, TaskRecord
from biosegment_gateway.monailabel.services import Services
from biosegment_gateway.monailabel.sql import Records, now_us

SEGMENTATION: Final = "segmentation"
"""Name of the model that labels by itself, and of its trainer."""
STEPS_PER_EPOCH: Final = 10
"""MONAI Label counts epochs, the platform optimisation steps."""
BATCH: Final = "batch_infer"
_MAX_EPOCHS: Final = 100_000
_LOG_LINES: Final = 20
_LOG_PAGE: Final = 1000
_STATUS: Final = {
    job_pb2.Job.STATE_QUEUED: "SUBMITTED",
    job_pb2.Job.STATE_RUNNING: "RUNNING",
    job_pb2.Job.STATE_SUCCEEDED: "DONE",
    job_pb2.Job.STATE_FAILED: "ERROR",
    job_pb2.Job.STATE_CANCELLED: "STOPPED",
}


def is_running(job: job_pb2.Job) -> bool:
    """Whether it is queued or worked on, and nobody has stopped it."""
    ended = job.state not in (job_pb2.Job.STATE_QUEUED, job_pb2.Job.STATE_RUNNING)
    return not ended and not job.cancel_requested


class Tasks:
    """Starts, watches and stops.

    Args:
        services: The trainer, in the name of the user.
        projects: Told when something began.
        records: Of predictions of many images.
        unit: Of lengths, for finding images.
    """

    def __init__(self, services: Services, projects: Projects, records: Records, unit: LengthUnit) -> None:
        self._services = services
        self._projects = projects
        self._records = records
        self._unit: LengthUnit = unit

    async def train(
        self, principal: Principal, project: Project, model: str, params: Mapping[str, Any]
    ) -> Any:
        """Start a training.

        Args:
            principal: Needs the permission to train.
            project: Whose annotations are trained on.
            model: Name of a trainer.
            params: `max_epochs`, `from_scratch`, `seed`; others are what only MONAI Label's trainers know.

        Raises:
            NotFound: NO_SUCH_TRAINER.
            ResourceExhausted: TRAINING_RUNS.
            InvalidArgument: BAD_PARAMETER.
            FailedPrecondition: NO_ANNOTATIONS.
        """
        if model != SEGMENTATION:
            raise NotFound(
                "NO_SUCH_TRAINER", f"there is no trainer {model[:100]!r}; there is {SEGMENTATION!r}"
            )
        running = next((job for job in project.jobs_of("train") if is_running(job)), None)
        if running is not None and params.get("enqueue") is not True:
            raise ResourceExhausted(
                "TRAINING_RUNS", f"{running.name} is running; stop it, or wait until it has ended"
            )
        spec = job_pb2.TrainSpec(
            max_steps=_whole(params, "max_epochs", 0, _MAX_EPOCHS) * STEPS_PER_EPOCH,
            from_scratch=params.get("from_scratch") is True,
            seed=_whole(params, "seed", 0, 1 << 31),
            interactive=True,
        )
        return await self._start(principal, project, job_pb2.JobSpec(train=spec))

    async def score(self, principal: Principal, project: Project, method: str) -> Any:
        """Score the volumes by a measure; NotFound NO_SUCH_METHOD, FailedPrecondition NO_MODEL."""
        if project.model is None:
            raise FailedPrecondition("NO_MODEL", "the project has no model yet; train one first")
        volumes = [volume.name for volume in project.volumes.values()]
        spec = job_pb2.ScoreSpec(model=project.model.name, volumes=volumes, measures=[method])
        return await self._start(principal, project, job_pb2.JobSpec(score=spec))

    async def newest(self, principal: Principal, project: Project, kind: str) -> job_pb2.Job:
        """The job of a kind that was started last; NotFound NO_TASK."""
        found = project.jobs_of(kind)
        if not found:
            raise NotFound("NO_TASK", f"nothing was started yet ({kind})")
        return await self._job(principal, found[0].name)

    async def stop(self, principal: Principal, project: Project, kind: str) -> Any:
        """Stop what is running of a kind; the last task, or None when nothing runs."""
        running = [job for job in project.jobs_of(kind) if is_running(job)]
        for job in running:
            await self._cancel(principal, job.name)
        if not running:
            return None
        self._projects.forget(project.project_id)
        fresh = await self._projects.get(principal, project.project_id)
        return await self.document(principal, await self.newest(principal, fresh, kind))

    async def document(self, principal: Principal, job: job_pb2.Job) -> dict[str, Any]:
        """A job as clients read it; `details` always holds a line."""
        found = brief(job)
        found["details"] = await self._details(principal, job)
        return found

    async def infer(
        self, principal: Principal, dataset: Dataset, images: Sequence[str], request: Mapping[str, Any]
    ) -> dict[str, Any]:
        """Predict many images; each gets a label under a tag when its volume's job has ended.

        Args:
            principal: Needs the permission to predict.
            dataset: Of the project.
            images: Which.
            request: `label_tag`, and what else the client says.

        Raises:
            FailedPrecondition: NO_MODEL.
            ResourceExhausted: BATCH_RUNS.
        """
        project = dataset.project
        tag = str(request.get("label_tag") or ORIGINAL)[:100]
        if tag == FINAL:
            raise InvalidArgument("BAD_TAG", "a prediction is no final label; choose another label_tag")
        jobs = {job.name for job in project.jobs_of("predict") if is_running(job)}
        newest = next(iter(await self._records.tasks(project.project_id, BATCH)), None)
        if newest is not None and jobs.intersection(newest.jobs):
            raise ResourceExhausted("BATCH_RUNS", "images are being predicted; stop that, or wait")
        by_volume: dict[str, list[tuple[str, Region]]] = {}
        for image_id in images:
            image = dataset.image(image_id, self._unit)
            by_volume.setdefault(image.volume.name, []).append((image_id, image.region))
        task = TaskRecord(
            str(uuid.uuid4()), project.project_id, BATCH, dict(request), (), principal.user, now_us()
        )
        made = []
        for volume, found in by_volume.items():
            spec = job_pb2.PredictSpec(
                volume=volume, region=region_to_proto(_around([each[1] for each in found]))
            )
            job = await self._create(
                principal, project, job_pb2.JobSpec(predict=spec), f"{task.task_id} {volume}"
            )
            made.append(job.name)
            for image_id, _ in found:
                await self._expect(project, image_id, tag, job, principal.user)
        task = TaskRecord(
            task.task_id, task.project_id, BATCH, task.request, tuple(made), task.user_id, task.start_time_us
        )
        await self._records.add_task(task)
        self._projects.forget(project.project_id)
        return await self.batch(principal, task)

    async def batches(self, project: Project) -> list[TaskRecord]:
        """Predictions of many images, newest first."""
        return await self._records.tasks(project.project_id, BATCH)

    async def batch(self, principal: Principal, task: TaskRecord) -> dict[str, Any]:
        """A prediction of many images as clients read it."""
        jobs = [await self._job(principal, name) for name in task.jobs]
        states = [_status(job) for job in jobs]
        status = next(
            (state for state in ("RUNNING", "SUBMITTED", "ERROR", "STOPPED") if state in states), "DONE"
        )
        found: dict[str, Any] = {
            "id": task.task_id,
            "status": status,
            "request": dict(task.request),
            "start_ts": _text(datetime.fromtimestamp(task.start_time_us / 1e6, UTC)),
            "details": [f"{job.name}: {line}" for job in jobs for line in _lines(job)] or ["no images"],
        }
        if status not in ("RUNNING", "SUBMITTED"):
            ends = [job.end_time.ToDatetime(UTC) for job in jobs if job.HasField("end_time")]
            found["end_ts"] = _text(max(ends, default=datetime.now(UTC)))
        return found

    async def stop_batch(self, principal: Principal, project: Project) -> dict[str, Any] | None:
        """Stop the last prediction of many images; None when none runs."""
        newest = next(iter(await self.batches(project)), None)
        if newest is None:
            return None
        jobs = [await self._job(principal, name) for name in newest.jobs]
        running = [job for job in jobs if is_running(job)]
        for job in running:
            await self._cancel(principal, job.name)
        return await self.batch(principal, newest) if running else None

    async def settle(self, principal: Principal, project_id: str) -> None:
        """Look whether predicted labels have come."""
        for name in await self._records.pending_jobs(project_id):
            job = await self._job(principal, name)
            if job.state == job_pb2.Job.STATE_SUCCEEDED and job.result.layers:
                await self._records.set_layer(project_id, name, job.result.layers[0])
            elif job.state in (job_pb2.Job.STATE_FAILED, job_pb2.Job.STATE_CANCELLED):
                await self._records.drop_labels_of_job(project_id, name)

    async def _expect(self, project: Project, image_id: str, tag: str, job: job_pb2.Job, user: str) -> None:
        names = project.classes.as_labels()
        info = {
            "model": job.spec.predict.model,
            "params": {"label_names": names},
            "ts": now_us() // 1_000_000,
        }
        label = LabelRecord(image_id, tag, ".nrrd", info, user, now_us(), project.classes.names, job=job.name)
        await self._records.put_label(project.project_id, label)

    async def _start(self, principal: Principal, project: Project, spec: job_pb2.JobSpec) -> dict[str, Any]:
        job = await self._create(principal, project, spec, str(uuid.uuid4()))
        self._projects.forget(project.project_id)
        return {**brief(job), "details": _lines(job)}

    async def _create(
        self, principal: Principal, project: Project, spec: job_pb2.JobSpec, identity: str
    ) -> job_pb2.Job:
        request_id = str(uuid.uuid5(uuid.NAMESPACE_URL, identity))
        request = job_pb2.CreateJobRequest(project=project.name, spec=spec, request_id=request_id)
        create = self._services.jobs["trainer"].CreateJob
        answer: Any = await self._services.ask("trainer", principal, create, request)
        job: job_pb2.Job = answer.job
        return job

    async def _cancel(self, principal: Principal, name: str) -> None:
        cancel = self._services.jobs["trainer"].CancelJob
        await self._services.ask("trainer", principal, cancel, job_pb2.CancelJobRequest(name=name))

    async def _job(self, principal: Principal, name: str) -> job_pb2.Job:
        """A job; one that the trainer knows no more counts as stopped."""
        get = self._services.jobs["trainer"].GetJob
        try:
            answer: Any = await self._services.ask(
                "trainer", principal, get, job_pb2.GetJobRequest(name=name)
            )
        except NotFound:
            return job_pb2.Job(name=name, state=job_pb2.Job.STATE_CANCELLED)
        job: job_pb2.Job = answer.job
        return job

    async def log(self, principal: Principal, name: str, count: int) -> list[str]:
        """The last lines of a job's log."""
        lines: list[str] = []
        list_logs, after = self._services.jobs["trainer"].ListJobLogs, 0
        while True:
            request = job_pb2.ListJobLogsRequest(name=name, after_line=after, page_size=_LOG_PAGE)
            page: Any = await self._services.ask("trainer", principal, list_logs, request)
            lines = [*lines, *(f"{_text(each.time.ToDatetime(UTC))} {each.text}" for each in page.lines)][
                -count:
            ]
            if len(page.lines) < _LOG_PAGE:
                return lines
            after = page.lines[-1].line

    async def _details(self, principal: Principal, job: job_pb2.Job) -> list[str]:
        return [*await self.log(principal, job.name, _LOG_LINES), *_lines(job)][-_LOG_LINES:]


def brief(job: job_pb2.Job) -> dict[str, Any]:
    """A job as clients read it, without its log."""
    kind = job.spec.WhichOneof("kind") or ""
    found: dict[str, Any] = {
        "id": job.name.removeprefix("jobs/"),
        "status": _status(job),
        "request": {"model": SEGMENTATION, "kind": kind},
        "start_ts": _text(
            (job.start_time if job.HasField("start_time") else job.create_time).ToDatetime(UTC)
        ),
        "details": _lines(job),
    }
    if job.HasField("end_time"):
        found["end_ts"] = _text(job.end_time.ToDatetime(UTC))
    elif job.cancel_requested:
        found["end_ts"] = _text(datetime.now(UTC))
    return found


def _status(job: job_pb2.Job) -> str:
    if job.cancel_requested and job.state in (job_pb2.Job.STATE_QUEUED, job_pb2.Job.STATE_RUNNING):
        return "STOPPED"
    return _STATUS.get(job.state, "ERROR")


def _lines(job: job_pb2.Job) -> list[str]:
    progress = job.progress
    lines = [f"{progress.fraction:.0%} {progress.step}".strip()]
    if job.state == job_pb2.Job.STATE_QUEUED:
        lines = [f"waits for its turn; {job.queue_position} before it"]
    if job.error.message:
        lines.append(f"{job.error.reason}: {job.error.message}")
    return lines


def _text(moment: datetime) -> str:
    return moment.strftime("%Y-%m-%d %H:%M:%S")


def _around(regions: Sequence[Region]) -> Region:
    start = Index(*(min(each.start[axis] for each in regions) for axis in range(3)))
    return Region(start, Index(*(max(each.stop[axis] for each in regions) for axis in range(3))))


def _whole(params: Mapping[str, Any], name: str, default: int, most: int) -> int:
    """A whole number, which some clients send as text."""
    value = params.get(name, default)
    try:
        number = int(value)
    except (TypeError, ValueError):
        number = -1
    if isinstance(value, bool) or not 0 <= number <= most:
        raise InvalidArgument(
            "BAD_PARAMETER", f"{name} is {str(value)[:50]!r}; a whole number of 0 to {most}"
        )
    return number
