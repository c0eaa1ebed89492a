"""Builds the service from its settings."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from dataclasses import dataclass
from typing import Any

from biosegment.api.datastore.v1alpha1.annotation_pb2_grpc import add_AnnotationServiceServicer_to_server
from biosegment.api.datastore.v1alpha1.datastore_pb2_grpc import add_DatastoreServiceServicer_to_server
from biosegment.api.datastore.v1alpha1.instance_pb2_grpc import add_InstanceEditServiceServicer_to_server
from biosegment.api.job.v1alpha1.job_pb2_grpc import add_JobServiceServicer_to_server
from biosegment.auth import Authorizer, Permission, PrincipalVerifier
from biosegment.database import Database, migrate
from biosegment.jobs import JobKind, JobRunner, JobService, JobSignal, RunnerLimits, SqlJobs
from biosegment.jobs.servicer import JOB_SERVICE, JobServicer
from biosegment.rpc.server import RpcServer
from biosegment.rpc.tls import mutual_tls
from biosegment.storage.arrays import Arrays
from biosegment.storage.objects import Objects, open_objects
from biosegment_datastore.admission import Admission
from biosegment_datastore.annotation_servicer import ANNOTATION_SERVICE, AnnotationServicer
from biosegment_datastore.annotations.commit_service import CommitService
from biosegment_datastore.annotations.draft_service import DraftService
from biosegment_datastore.annotations.leasing import LeaseVerifier
from biosegment_datastore.annotations.projector import Projector
from biosegment_datastore.annotations.service import AnnotationService
from biosegment_datastore.collector import Collector
from biosegment_datastore.datastore_servicer import DATASTORE_SERVICE, DatastoreServicer
from biosegment_datastore.exports.job import ExportJob
from biosegment_datastore.garbage_service import GarbageService
from biosegment_datastore.imports.file import ImportFiles
from biosegment_datastore.imports.job import ImportJob
from biosegment_datastore.imports.label_job import LabelJob
from biosegment_datastore.instance_servicer import INSTANCE_EDIT_SERVICE, InstanceEditServicer
from biosegment_datastore.instances.history import Histories
from biosegment_datastore.instances.lister import Lister
from biosegment_datastore.instances.service import InstanceService
from biosegment_datastore.layer_service import LayerService
from biosegment_datastore.memberships import CachedMemberships
from biosegment_datastore.project_service import ProjectService
from biosegment_datastore.reading import OpenArrays
from biosegment_datastore.reference_array import ReferenceArrays
from biosegment_datastore.settings import SERVICE, DatastoreSettings
from biosegment_datastore.sql.annotation import SqlAnnotations
from biosegment_datastore.sql.commit import SqlCommits
from biosegment_datastore.sql.draft import SqlDrafts
from biosegment_datastore.sql.ended_lease import SqlEndedLeases
from biosegment_datastore.sql.instance import SqlInstances
from biosegment_datastore.sql.label import SqlLabelImports
from biosegment_datastore.sql.layer import SqlLayers
from biosegment_datastore.sql.project import SqlProjects
from biosegment_datastore.sql.projection import SqlProjections
from biosegment_datastore.sql.transfer import SqlGarbage, SqlTransfers
from biosegment_datastore.sql.volume import SqlVolumes
from biosegment_datastore.transfer import UploadLimits
from biosegment_datastore.transfer_service import TransferService
from biosegment_datastore.volume_service import VolumeService
from biosegment_datastore.worker_process import WorkerLimits


@dataclass(frozen=True, slots=True)
class Datastore:
    """The parts of a running datastore that its process needs."""

    server: RpcServer
    projector: Projector
    collector: Collector
    runner: JobRunner
    lister: Lister
    database: Database
    objects: Objects

    def background(self) -> tuple[Coroutine[Any, Any, None], ...]:
        """Endless work beside the server."""
        return self.projector.run(), self.collector.run(), self.runner.run()

    async def close(self) -> None:
        """Release files and connections, after the server has stopped."""
        await self.lister.close()
        await self.objects.close()
        await self.database.close()


class _Repositories:
    def __init__(self, database: Database) -> None:
        self.projects = SqlProjects(database)
        self.volumes = SqlVolumes(database)
        self.layers = SqlLayers(database)
        self.label_imports = SqlLabelImports(database)
        self.instances = SqlInstances(database)
        self.annotations = SqlAnnotations(database)
        self.commits = SqlCommits(database)
        self.ended_leases = SqlEndedLeases(database)
        self.drafts = SqlDrafts(database)
        self.projections = SqlProjections(database)
        self.transfers = SqlTransfers(database)
        self.garbage = SqlGarbage(database)
        self.jobs = SqlJobs(database, SERVICE, JobSignal())


async def build(settings: DatastoreSettings) -> Datastore:
    """Migrate the database, open the stores and put the service together; nothing runs yet.

    Raises:
        BiosegmentError: What is wrong with the settings, the database or the object storage.
    """
    await asyncio.to_thread(migrate, settings.database_url, "biosegment_datastore")
    verifier = PrincipalVerifier.from_folder(SERVICE, settings.public_keys_dir)
    objects = await asyncio.to_thread(open_objects, settings)
    database = Database.open(settings.database_url)
    rows, arrays = _Repositories(database), Arrays(settings)
    open_arrays = OpenArrays(arrays)
    admission = Admission(settings.read_memory_bytes)
    memberships = CachedMemberships(rows.projects)
    authorizer = Authorizer(memberships)
    projector = Projector(
        rows.projections,
        rows.annotations,
        rows.layers,
        rows.volumes,
        rows.projects,
        arrays,
        open_arrays,
        objects,
        settings.projection_lease_s,
        settings.projection_poll_s,
    )
    limits = WorkerLimits(settings.import_memory_bytes, settings.import_timeout_s)
    lister = Lister(rows.instances, objects, settings, limits, settings.list_wait_s)
    histories = Histories(rows.instances)
    instances = InstanceService(
        rows.instances,
        rows.layers,
        rows.volumes,
        rows.projects,
        authorizer,
        objects,
        open_arrays,
        histories,
        lister,
    )
    layers = LayerService(
        rows.layers,
        rows.volumes,
        rows.projects,
        authorizer,
        arrays,
        open_arrays,
        projector,
        instances,
        settings.max_region_bytes,
        admission,
    )
    collector = Collector(
        rows.garbage,
        rows.transfers,
        rows.annotations,
        rows.instances,
        rows.projects,
        rows.jobs,
        objects,
        settings.scratch_dir,
        settings.collect_every_s,
        settings.orphan_grace_s,
    )
    datastore_servicer = DatastoreServicer(
        ProjectService(rows.projects, authorizer, memberships),
        VolumeService(
            rows.volumes,
            authorizer,
            open_arrays,
            ReferenceArrays(settings.roots),
            objects,
            settings.max_region_bytes,
            admission,
        ),
        layers,
        TransferService(
            rows.transfers,
            rows.projects,
            authorizer,
            objects,
            UploadLimits(
                settings.max_upload_bytes,
                settings.max_project_upload_bytes,
                settings.max_project_uploads,
                settings.upload_lifetime_s,
            ),
        ),
        GarbageService(rows.garbage, collector, objects, settings.orphan_grace_s),
        settings.object_store_url,
    )
    annotations = AnnotationService(rows.annotations, rows.ended_leases, authorizer, objects, projector)
    commits = CommitService(rows.commits, authorizer, objects, LeaseVerifier(verifier), projector)
    drafts = DraftService(rows.drafts, rows.projects, rows.volumes, authorizer, objects, settings.max_drafts)
    kinds, runner = _jobs(settings, rows, objects, projector, authorizer, histories, limits)
    server = RpcServer(
        settings.listen,
        verifier,
        tls=mutual_tls(settings),
        health_listen=settings.health_listen,
        allow_insecure_listen=settings.allow_insecure_listen,
    )
    server.add(add_DatastoreServiceServicer_to_server, datastore_servicer, DATASTORE_SERVICE)
    server.add(
        add_AnnotationServiceServicer_to_server,
        AnnotationServicer(annotations, commits, drafts, layers),
        ANNOTATION_SERVICE,
    )
    server.add(
        add_InstanceEditServiceServicer_to_server, InstanceEditServicer(instances), INSTANCE_EDIT_SERVICE
    )
    jobs = JobService(rows.jobs, authorizer, kinds, settings.max_user_jobs)
    server.add(add_JobServiceServicer_to_server, JobServicer(jobs), JOB_SERVICE)
    return Datastore(server, projector, collector, runner, lister, database, objects)


def _jobs(
    settings: DatastoreSettings,
    rows: _Repositories,
    objects: Objects,
    projector: Projector,
    authorizer: Authorizer,
    histories: Histories,
    limits: WorkerLimits,
) -> tuple[dict[str, JobKind], JobRunner]:
    files = ImportFiles(rows.transfers, objects, settings.roots, settings.scratch_dir)
    imports = ImportJob(
        projects=rows.projects,
        volumes=rows.volumes,
        garbage=rows.garbage,
        files=files,
        store=settings,
        limits=limits,
    )
    labels = LabelJob(
        projects=rows.projects,
        volumes=rows.volumes,
        layers=rows.layers,
        imports=rows.label_imports,
        garbage=rows.garbage,
        files=files,
        projector=projector,
        authorizer=authorizer,
        store=settings,
        limits=limits,
    )
    exports = ExportJob(
        projects=rows.projects,
        volumes=rows.volumes,
        layers=rows.layers,
        annotations=rows.annotations,
        instances=rows.instances,
        histories=histories,
        projector=projector,
        transfers=rows.transfers,
        garbage=rows.garbage,
        store=settings,
        scratch_dir=settings.scratch_dir,
        roots=settings.roots,
        limits=limits,
    )
    kinds = {
        "import_volume": JobKind(Permission.VOLUME_WRITE, imports.prepare),
        "import_labels": JobKind(Permission.VOLUME_WRITE, labels.prepare),
        "export": JobKind(Permission.EXPORT, exports.prepare),
    }
    runner = JobRunner(
        rows.jobs,
        {"import_volume": imports.run, "import_labels": labels.run, "export": exports.run},
        RunnerLimits(concurrent=settings.concurrent_jobs),
        # An SQLite file has one datastore; on PostgreSQL several may share the jobs.
        exclusive=settings.database_url.startswith("sqlite"),
    )
    return kinds, runner
