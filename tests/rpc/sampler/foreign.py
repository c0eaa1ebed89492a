"""The datastore and the trainer as far as the sampler calls them: servers that keep to the contract, in memory.

The sampler's own parts are all real; these two are other services.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from inspect import isawaitable
from pathlib import Path
from typing import Any

import numpy as np
from google.protobuf.timestamp_pb2 import Timestamp

from biosegment.api.datastore.v1alpha1 import (
    annotation_pb2,
    annotation_pb2_grpc,
    datastore_pb2,
    datastore_pb2_grpc,
    project_pb2,
    volume_pb2,
)
from biosegment.api.job.v1alpha1 import job_pb2, job_pb2_grpc
from biosegment.api.trainer.v1alpha1 import trainer_pb2, trainer_pb2_grpc
from biosegment.api.volume.v1alpha1 import geometry_pb2
from biosegment.auth import PrincipalVerifier
from biosegment.errors import BiosegmentError, FailedPrecondition, NotFound, Unavailable
from biosegment.rpc import current_principal
from biosegment.rpc.geometry import index_to_proto, region_from_proto, region_to_proto
from biosegment.settings import ObjectStoreSettings
from biosegment.storage.arrays import Arrays
from biosegment.volume import Region, VoxelSize

PROJECT = "projects/p1"
ROLES = {
    "ann": project_pb2.ROLE_ANNOTATOR,
    "bob": project_pb2.ROLE_ANNOTATOR,
    "mia": project_pb2.ROLE_MANAGER,
    "rev": project_pb2.ROLE_REVIEWER,
    "roy": project_pb2.ROLE_REVIEWER,
    "vic": project_pb2.ROLE_VIEWER,
}
CELL = 16


@dataclass
class Records:
    """The datastore's memory."""

    root: Path
    verifier: PrincipalVerifier
    volumes: dict[str, tuple[int, int, int]] = field(default_factory=dict)
    voxel_size: VoxelSize = field(default_factory=lambda: VoxelSize(40, 10, 10))
    records: list[annotation_pb2.AnnotationRecord] = field(default_factory=list)
    layers: list[volume_pb2.Layer] = field(default_factory=list)
    ended: dict[str, annotation_pb2.EndLeaseRequest] = field(default_factory=dict)
    compared: list[tuple[str, str]] = field(default_factory=list)
    before_ending: Callable[[], object] = lambda: None
    gone: str = ""
    """'missing' when there is no project, 'deleted' when there was one."""
    calls: Counter[str] = field(default_factory=Counter)

    def commit(
        self,
        user: str,
        region: Region,
        counts: dict[int, int],
        *,
        volume: str,
        token: str = "",
        work_time_s: float = 2.0,
        created_at: float | None = None,
    ) -> str:
        """Make an annotation as CommitAnnotation would; a token is checked like the datastore checks it."""
        sample = ""
        if token:
            claims = self.verifier.verify_claims(token, "sampler")
            assert claims["sub"] == user
            assert claims["volume"] == f"{PROJECT}/volumes/{volume}"
            assert claims["region"] == [list(region.start), list(region.stop)]
            sample = str(claims["sample"])
            over = self.ended.get(sample)
            if over is not None and int(str(claims["term"])) < over.term:
                reason = "LEASE_TAKEN_OVER" if over.successor else "LEASE_GIVEN_BACK"
                raise FailedPrecondition(
                    reason, f"{over.successor_name} took {sample} over, or it was given back"
                )
        sequence = len(self.records) + 1
        now = Timestamp()
        now.GetCurrentTime()
        if created_at is not None:
            now.FromNanoseconds(int(created_at * 1e9))
        name = f"{PROJECT}/volumes/{volume}/annotations/a{sequence}"
        annotation = annotation_pb2.Annotation(
            name=name,
            region=region_to_proto(region),
            author=user,
            sample=sample,
            voxel_counts=counts,
            work_time_s=work_time_s,
            create_time=now,
        )
        self.records.append(
            annotation_pb2.AnnotationRecord(sequence=sequence, annotation=annotation, author=user)
        )
        return name

    def revert(self, name: str, user: str = "mia") -> None:
        self.records.append(
            annotation_pb2.AnnotationRecord(sequence=len(self.records) + 1, reverted=name, author=user)
        )

    def review(self, name: str, accepted: bool, user: str = "mia", comment: str = "") -> None:
        review = annotation_pb2.Review(annotation=name, accepted=accepted, comment=comment)
        self.records.append(
            annotation_pb2.AnnotationRecord(sequence=len(self.records) + 1, review=review, author=user)
        )

    def holding(self) -> list[annotation_pb2.Annotation]:
        """Annotations that hold."""
        states: dict[str, bool] = {}
        for record in self.records:
            kind = record.WhichOneof("record")
            if kind == "annotation":
                states[record.annotation.name] = True
            elif kind == "reverted":
                states[record.reverted] = False
            else:
                states[record.review.annotation] = record.review.accepted
        return [
            record.annotation
            for record in self.records
            if record.WhichOneof("record") == "annotation" and states[record.annotation.name]
        ]

    def add_score_map(self, volume: str, model: str, measure: str, cells: np.ndarray, job: str = "") -> None:
        """Write a committed score map of one cell per 16 x 16 voxels; channels lie side by side along x."""
        number = len(self.layers) + 1
        key = f"projects/p1/layers/l{number}/1"
        url = f"file://{self.root}"
        array = Arrays(ObjectStoreSettings(object_store_url=url)).create(
            key, cells.shape, "float16", fill=float("nan")
        )
        array.write(tuple(slice(0, size) for size in cells.shape), cells.astype(np.float16))
        self.layers.insert(
            0,
            volume_pb2.Layer(
                name=f"{PROJECT}/volumes/{volume}/layers/l{number}",
                kind=volume_pb2.Layer.KIND_SCORE_MAP,
                state=volume_pb2.Layer.STATE_COMMITTED,
                data_type=geometry_pb2.DATA_TYPE_FLOAT16,
                downsampling=geometry_pb2.Index(z=1, y=CELL, x=CELL),
                measure=measure,
                model=model,
                job=job,
                uri=f"{url}/{key}",
            ),
        )


class ForeignDatastore(
    datastore_pb2_grpc.DatastoreServiceServicer, annotation_pb2_grpc.AnnotationServiceServicer
):
    def __init__(self, records: Records) -> None:
        self.memory = records

    async def GetProject(self, request: Any, context: Any) -> Any:
        _require_project(request.name)
        return datastore_pb2.GetProjectResponse(
            project=project_pb2.Project(name=PROJECT, working_resolution_nm=10)
        )

    async def GetMember(self, request: Any, context: Any) -> Any:
        project, _, user = request.name.partition("/members/")
        _require_project(project)
        if user not in ROLES:
            raise NotFound("MEMBER_NOT_FOUND", f"{user} is no member")
        member = project_pb2.Member(name=request.name, role=ROLES[user])
        return datastore_pb2.GetMemberResponse(member=member)

    async def ListMembers(self, request: Any, context: Any) -> Any:
        self.memory.calls["members"] += 1
        if request.parent != PROJECT:
            return datastore_pb2.ListMembersResponse()
        members = [
            project_pb2.Member(name=f"{request.parent}/members/{user}", role=role)
            for user, role in ROLES.items()
        ]
        return datastore_pb2.ListMembersResponse(members=members)

    async def ListVolumes(self, request: Any, context: Any) -> Any:
        self.memory.calls["volumes"] += 1
        _require_project(request.parent)
        size = self.memory.voxel_size
        return datastore_pb2.ListVolumesResponse(
            volumes=[
                volume_pb2.Volume(
                    name=f"{PROJECT}/volumes/{volume}",
                    shape=index_to_proto(shape),
                    voxel_size=geometry_pb2.VoxelSize(z_nm=size.z_nm, y_nm=size.y_nm, x_nm=size.x_nm),
                )
                for volume, shape in self.memory.volumes.items()
            ]
        )

    async def ListLayers(self, request: Any, context: Any) -> Any:
        return datastore_pb2.ListLayersResponse(
            layers=[
                layer
                for layer in self.memory.layers
                if layer.name.startswith(request.parent + "/")
                and layer.model == request.model
                and layer.kind in request.kinds
            ]
        )

    async def ListAnnotationRecords(self, request: Any, context: Any) -> Any:
        self.memory.calls["records"] += 1
        if self.memory.gone:
            metadata = {"deleted": "true"} if self.memory.gone == "deleted" else {}
            raise NotFound("PROJECT_NOT_FOUND", f"there is no {request.parent}", **metadata)
        _require_project(request.parent)
        assert current_principal().subject == "sampler"
        later = [record for record in self.memory.records if record.sequence > request.after_sequence]
        return annotation_pb2.ListAnnotationRecordsResponse(records=later[: request.page_size or 200])

    async def CommitAnnotation(self, request: Any, context: Any) -> Any:
        """As far as leases go; every voxel is background."""
        region = region_from_proto(request.annotation.region)
        name = self.memory.commit(
            current_principal().user,
            region,
            {1: region.size},
            volume=request.parent.rpartition("/")[2],
            token=request.lease_token,
        )
        annotation = annotation_pb2.Annotation(name=name, region=request.annotation.region)
        return annotation_pb2.CommitAnnotationResponse(annotation=annotation)

    async def EndLease(self, request: Any, context: Any) -> Any:
        assert current_principal().subject == "sampler"
        if isawaitable(waiting := self.memory.before_ending()):
            await waiting
        known = self.memory.ended.get(request.sample)
        if known is None or known.term < request.term:
            self.memory.ended[request.sample] = request
        return annotation_pb2.EndLeaseResponse()

    async def CompareAnnotations(self, request: Any, context: Any) -> Any:
        """By the counts that they were committed with: as if every voxel of the smaller one lay in the other."""
        self.memory.compared.append((request.first, request.second))
        both = [
            dict(record.annotation.voxel_counts)
            for name in (request.first, request.second)
            for record in self.memory.records
            if record.annotation.name == name
        ]
        sizes = [each.get(2, 0) for each in both]
        total = sum(both[0].values())
        return annotation_pb2.CompareAnnotationsResponse(
            compared_voxels=total,
            agreed_voxels=total - (max(sizes) - min(sizes)),
            classes=[
                annotation_pb2.ClassOverlap(
                    class_value=2, intersection_voxels=min(sizes), union_voxels=max(sizes)
                )
            ],
        )


def _require_project(name: str) -> None:
    if name != PROJECT:
        raise NotFound("PROJECT_NOT_FOUND", f"there is no {name}")


class ForeignTrainer(job_pb2_grpc.JobServiceServicer, trainer_pb2_grpc.TrainerServiceServicer):
    """Jobs end when a test says so."""

    def __init__(self, records: Records) -> None:
        self.memory = records
        self.jobs: dict[str, job_pb2.Job] = {}
        self.by_request: dict[str, str] = {}
        self.models: list[trainer_pb2.Model] = []
        self.refuse = ""
        self.refusal: BiosegmentError | None = None
        self.asked = 0
        self.has_dropout = True
        self.away = False

    def of_kind(self, kind: str) -> list[job_pb2.Job]:
        return [job for job in self.jobs.values() if job.spec.WhichOneof("kind") == kind]

    def add_model(
        self, annotations: list[str], job: str = "", class_values: tuple[int, ...] = (2,), **fields: Any
    ) -> str:
        version = len(self.models) + 1
        name = f"models/m{version}"
        model = trainer_pb2.Model(
            name=name,
            project=PROJECT,
            version=version,
            annotations=annotations,
            annotation_count=len(annotations),
            job=job,
            class_values=class_values,
            **fields,
        )
        self.models.insert(0, model)
        return name

    def finish_training(self, job: job_pb2.Job, annotations: list[str] | None = None) -> str:
        """End a training with a model of these annotations; by default of all that hold now."""
        names = [item.name for item in self.memory.holding()] if annotations is None else annotations
        model = self.add_model(names, job.name)
        job.result.model = model
        job.state = job_pb2.Job.STATE_SUCCEEDED
        return model

    def finish_scoring(self, job: job_pb2.Job, maps: dict[str, dict[str, np.ndarray]]) -> None:
        """End a scoring with maps by volume id and measure."""
        for volume in job.spec.score.volumes:
            volume_id = volume.rpartition("/")[2]
            for measure in job.spec.score.measures:
                cells = maps[volume_id][measure]
                self.memory.add_score_map(volume_id, job.spec.score.model, measure, cells, job.name)
        job.state = job_pb2.Job.STATE_SUCCEEDED

    def train_directly(self) -> job_pb2.Job:
        """A training that somebody asks for without the sampler."""
        name = f"jobs/trainer-{len(self.jobs) + 1}"
        spec = job_pb2.JobSpec(train=job_pb2.TrainSpec())
        self.jobs[name] = job_pb2.Job(name=name, project=PROJECT, spec=spec, state=job_pb2.Job.STATE_QUEUED)
        return self.jobs[name]

    def fail(self, job: job_pb2.Job, message: str) -> None:
        job.state = job_pb2.Job.STATE_FAILED
        job.error.reason, job.error.message = "TRAINING_FAILED", message

    async def CreateJob(self, request: Any, context: Any) -> Any:
        self.asked += 1
        if self.refuse:
            raise FailedPrecondition("NOTHING_TO_TRAIN_ON", self.refuse)
        if self.refusal is not None:
            raise self.refusal
        if request.spec.score.passes.mc_dropout and not self.has_dropout:
            raise FailedPrecondition("NO_DROPOUT", "the network has no dropout")
        assert request.request_id
        name = self.by_request.get(request.request_id, "")
        if not name:
            name = f"jobs/trainer-{len(self.jobs) + 1}"
            self.by_request[request.request_id] = name
            self.jobs[name] = job_pb2.Job(
                name=name, project=request.project, spec=request.spec, state=job_pb2.Job.STATE_RUNNING
            )
        return job_pb2.CreateJobResponse(job=self.jobs[name])

    async def GetJob(self, request: Any, context: Any) -> Any:
        if request.name not in self.jobs:
            raise NotFound("JOB_NOT_FOUND", f"there is no {request.name}")
        return job_pb2.GetJobResponse(job=self.jobs[request.name])

    async def ListJobs(self, request: Any, context: Any) -> Any:
        found = [job for job in self.jobs.values() if not request.states or job.state in request.states]
        return job_pb2.ListJobsResponse(jobs=found[::-1])

    async def CancelJob(self, request: Any, context: Any) -> Any:
        job = self.jobs[request.name]
        job.state = job_pb2.Job.STATE_CANCELLED
        return job_pb2.CancelJobResponse(job=job)

    async def ListModels(self, request: Any, context: Any) -> Any:
        if self.away:
            raise Unavailable("AWAY", "the trainer is being updated")
        return trainer_pb2.ListModelsResponse(models=self.models)

    async def GetModel(self, request: Any, context: Any) -> Any:
        for model in self.models:
            if model.name == request.name:
                return trainer_pb2.GetModelResponse(model=model)
        raise NotFound("MODEL_NOT_FOUND", f"there is no {request.name}")
