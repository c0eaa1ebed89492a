"""What the MONAI Label API shows of a project: classes and volumes, remembered for a moment."""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, Final

from google.protobuf import field_mask_pb2

from biosegment.api.datastore.v1alpha1 import datastore_pb2, project_pb2
from biosegment.api.job.v1alpha1 import job_pb2
from biosegment.api.sampler.v1alpha1 import sampler_pb2
from biosegment.api.trainer.v1alpha1 import trainer_pb2
from biosegment.auth import Authorizer, Kind, Permission, Principal
from biosegment.ids import check_id
from biosegment.rpc.geometry import data_type_from_proto, index_from_proto, voxel_size_from_proto
from biosegment.volume import Index, VoxelSize
from biosegment_gateway.monailabel.label_map import ClassNames
from biosegment_gateway.monailabel.services import Services

_CAPACITY: Final = 256
_JOBS: Final = 100
"""Of the newest jobs of a project, among which trainings are looked for."""
_GATEWAY: Final = Principal(Kind.SERVICE, "gateway")


@dataclass(frozen=True, slots=True)
class VolumeFacts:
    """A volume; `version` changes whenever files made of it may be wrong."""

    name: str
    shape: Index
    voxel_size: VoxelSize
    data_type: str
    version: str


@dataclass(frozen=True, slots=True)
class Project:
    """A project as all of its members see it.

    Attributes:
        project_id: Its id.
        display_name: For people.
        description: For people.
        classes: In order.
        volumes: By id.
        strategies: Ways to choose what to annotate: name and description.
        jobs: The newest ones of the trainer, newest first.
        model: The newest model; None before the first.
    """

    project_id: str
    display_name: str
    description: str
    classes: ClassNames
    volumes: Mapping[str, VolumeFacts]
    strategies: Mapping[str, str]
    jobs: tuple[job_pb2.Job, ...]
    model: trainer_pb2.Model | None

    @property
    def name(self) -> str:
        return f"projects/{self.project_id}"

    def jobs_of(self, kind: str) -> list[job_pb2.Job]:
        """Those of a kind, newest first."""
        return [job for job in self.jobs if job.spec.WhichOneof("kind") == kind]


class Projects:
    """Projects, read once for all who ask within a moment: clients poll, and everything else needs these facts.

    They are the same for all who may see a project, so the gateway reads them in its own name, after it has looked
    whether the one who asks may. What is no longer new is read again before it is too old, and nobody waits for that.

    Args:
        services: Asked for the facts.
        authorizer: Decides who may see a project.
        lifetime_s: How long answers are used again.
    """

    def __init__(self, services: Services, authorizer: Authorizer, lifetime_s: float = 1.0) -> None:
        self._services = services
        self._authorizer = authorizer
        self._lifetime_s = lifetime_s
        self._known: OrderedDict[str, _Known] = OrderedDict()

    async def get(self, principal: Principal, project_id: str) -> Project:
        """A project; NotFound PROJECT_NOT_FOUND for those who may not see it."""
        check_id(project_id, "project")
        await self._authorizer.authorize(principal, Permission.PROJECT_READ, project_id)
        known = self._known.get(project_id)
        if known is None or known.age_s >= self._lifetime_s or _failed(known.task):
            known = self._put(project_id, known.successor if known is not None else None)
        elif known.age_s >= self._lifetime_s / 2 and known.task.done() and known.successor is None:
            known.successor = self._begun(project_id)
            known.successor.task.add_done_callback(partial(self._succeed, project_id, known))
        # Who gives up must not spoil it for the others.
        return await asyncio.shield(known.task)

    def _begun(self, project_id: str) -> _Known:
        return _Known(asyncio.create_task(self._read(project_id)), time.monotonic())

    def _put(self, project_id: str, begun: _Known | None) -> _Known:
        known = begun if begun is not None and not _failed(begun.task) else self._begun(project_id)
        self._known.pop(project_id, None)
        self._known[project_id] = known
        if len(self._known) > _CAPACITY:
            self._known.popitem(last=False)
        return known

    def _succeed(self, project_id: str, before: _Known, task: asyncio.Task[Project]) -> None:
        # Unless somebody has said meanwhile that something has changed.
        if not _failed(task) and self._known.get(project_id) is before:
            self._put(project_id, before.successor)

    async def describe(
        self, principal: Principal, project_id: str, display_name: str | None, description: str | None
    ) -> None:
        """Change a project's name and description, those of them that are given."""
        given = {"display_name": display_name, "description": description}
        changes = [field for field, text in given.items() if text is not None]
        if not changes:
            return
        project = project_pb2.Project(
            name=f"projects/{project_id}", display_name=display_name or "", description=description or ""
        )
        mask = field_mask_pb2.FieldMask(paths=changes)
        request = datastore_pb2.UpdateProjectRequest(project=project, update_mask=mask)
        await self._services.ask("datastore", principal, self._services.datastore.UpdateProject, request)
        self.forget(project_id)

    def forget(self, project_id: str) -> None:
        """Something has changed: ask again next time."""
        self._known.pop(project_id, None)

    async def _read(self, project_id: str) -> Project:
        services, principal, name = self._services, _GATEWAY, f"projects/{project_id}"
        jobs = job_pb2.ListJobsRequest(project=name, page_size=_JOBS)
        strategies = sampler_pb2.ListStrategiesRequest()
        found, volumes, listed, ways, models = await asyncio.gather(
            services.ask(
                "datastore",
                principal,
                services.datastore.GetProject,
                datastore_pb2.GetProjectRequest(name=name),
            ),
            self._volumes(name),
            services.ask("trainer", principal, services.jobs["trainer"].ListJobs, jobs),
            services.ask("sampler", principal, services.sampler.ListStrategies, strategies),
            services.ask(
                "trainer",
                principal,
                services.trainer.ListModels,
                trainer_pb2.ListModelsRequest(project=name, page_size=10),
            ),
        )
        project = found.project
        return Project(
            project_id=project_id,
            display_name=project.display_name,
            description=project.description,
            classes=ClassNames(
                {item.display_name: item.value for item in project.classes},
                {item.display_name: item.color_rgb for item in project.classes},
            ),
            volumes=volumes,
            strategies={item.strategy: item.description for item in ways.strategies},
            jobs=tuple(listed.jobs),
            model=next((model for model in models.models if not model.deleted), None),
        )

    async def _volumes(self, project: str) -> dict[str, VolumeFacts]:
        found: dict[str, VolumeFacts] = {}
        token = ""
        while True:
            request = datastore_pb2.ListVolumesRequest(parent=project, page_size=500, page_token=token)
            page: Any = await self._services.ask(
                "datastore", _GATEWAY, self._services.datastore.ListVolumes, request
            )
            for volume in page.volumes:
                found[volume.name.rpartition("/")[2]] = VolumeFacts(
                    volume.name,
                    index_from_proto(volume.shape),
                    voxel_size_from_proto(volume.voxel_size),
                    data_type_from_proto(volume.data_type).name,
                    f"{volume.create_time.ToNanoseconds()} {volume.update_time.ToNanoseconds()}",
                )
            token = page.next_page_token
            if not token:
                return found


@dataclass(eq=False, slots=True)
class _Known:
    """Facts that are there or being read, since when (monotonic), and what takes their place."""

    task: asyncio.Task[Project]
    since: float
    successor: _Known | None = None

    @property
    def age_s(self) -> float:
        return time.monotonic() - self.since


def _failed(task: asyncio.Task[Project]) -> bool:
    return task.done() and (task.cancelled() or task.exception() is not None)
