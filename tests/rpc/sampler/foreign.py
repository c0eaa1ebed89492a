"""The datastore and the trainer as far as the sampler calls them: servers that keep to the contract, in memory.

The sampler's own parts are all real; these two are other services.
"""

from __future__ import annotations

from dataclasses import dataclass, field
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
from biosegment.errors import FailedPrecondition, NotFound
from biosegment.rpc import current_principal
from biosegment.rpc.geometry import index_to_proto, region_to_proto
from biosegment.settings import ObjectStoreSettings
from biosegment.storage.arrays import Arrays
from biosegment.volume import Region, VoxelSize

PROJECT = "projects/p1"
ROLES = {
    "ann": project_pb2.ROLE_ANNOTATOR,
    "bob": project_pb2.ROLE_ANNOTATOR,
    "mia": project_pb2.ROLE_MANAGER,
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

    def commit(
        self, user: str, region: Region, counts: dict[int, int], *, volume: str, token: str = ""
    ) -> str:
        """Make an annotation as CommitAnnotation would; a token is checked like the datastore checks it."""
        sample = ""
        if token:
            claims = self.verifier.verify_claims(token, "sampler")
            assert claims["sub"] == user
            assert claims["volume"] == f"{PROJECT}/volumes/{volume}"
            assert claims["region"] == [list(region.start), list(region.stop)]
            sample = str(claims["sample"])
        sequence = len(self.records) + 1
        now = Timestamp()
        now.GetCurrentTime()
        name = f"{PROJECT}/volumes/{volume}/annotations/a{sequence}"
        annotation = annotation_pb2.Annotation(
            name=name,
            region=region_to_proto(region),
            author=user,
            sample=sample,
            voxel_counts=counts,
            work_time_s=2.0,
            create_time=now,
        )
        self.records.append(
            annotation_pb2.AnnotationRecord(sequence=sequence, annotation=annotation, author=user)
        )
        return name

    def revert(self, name: str) -> None:
        self.records.append(annotation_pb2.AnnotationRecord(sequence=len(self.records) + 1, reverted=name))

    def review(self, name: str, accepted: bool) -> None:
        review = annotation_pb2.Review(annotation=name, accepted=accepted)
        self.records.append(annotation_pb2.AnnotationRecord(sequence=len(self.records) + 1, review=review))

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

    def add_score_map(self, volume: str, model: str, measure: str, cells: np.ndarray) -> None:
        """Write a committed score map of one cell per 16 x 16 voxels."""
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

    async def ListVolumes(self, request: Any, context: Any) -> Any:
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
        _require_project(request.parent)
        assert current_principal().subject == "sampler"
        later = [record for record in self.memory.records if record.sequence > request.after_sequence]
        return annotation_pb2.ListAnnotationRecordsResponse(records=later[: request.page_size or 200])


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

    def of_kind(self, kind: str) -> list[job_pb2.Job]:
        return [job for job in self.jobs.values() if job.spec.WhichOneof("kind") == kind]

    def add_model(self, annotations: list[str], job: str = "", class_values: tuple[int, ...] = (2,)) -> str:
        name = f"models/m{len(self.models) + 1}"
        model = trainer_pb2.Model(
            name=name, project=PROJECT, annotations=annotations, job=job, class_values=class_values
        )
        self.models.insert(0, model)
        return name

    def finish_training(self, job: job_pb2.Job) -> str:
        model = self.add_model([item.name for item in self.memory.holding()], job.name)
        job.result.model = model
        job.state = job_pb2.Job.STATE_SUCCEEDED
        return model

    def finish_scoring(self, job: job_pb2.Job, maps: dict[str, dict[str, np.ndarray]]) -> None:
        """End a scoring with maps by volume id and measure."""
        for volume in job.spec.score.volumes:
            volume_id = volume.rpartition("/")[2]
            for measure in job.spec.score.measures:
                self.memory.add_score_map(volume_id, job.spec.score.model, measure, maps[volume_id][measure])
        job.state = job_pb2.Job.STATE_SUCCEEDED

    def fail(self, job: job_pb2.Job, message: str) -> None:
        job.state = job_pb2.Job.STATE_FAILED
        job.error.reason, job.error.message = "TRAINING_FAILED", message

    async def CreateJob(self, request: Any, context: Any) -> Any:
        if self.refuse:
            raise FailedPrecondition("NOTHING_TO_TRAIN_ON", self.refuse)
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

    async def CancelJob(self, request: Any, context: Any) -> Any:
        job = self.jobs[request.name]
        job.state = job_pb2.Job.STATE_CANCELLED
        return job_pb2.CancelJobResponse(job=job)

    async def ListModels(self, request: Any, context: Any) -> Any:
        return trainer_pb2.ListModelsResponse(models=self.models)

    async def GetModel(self, request: Any, context: Any) -> Any:
        for model in self.models:
            if model.name == request.name:
                return trainer_pb2.GetModelResponse(model=model)
        raise NotFound("MODEL_NOT_FOUND", f"there is no {request.name}")
