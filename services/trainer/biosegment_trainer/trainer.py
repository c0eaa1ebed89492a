"""A whole trainer, put together from its settings."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Final

from biosegment.api.job.v1alpha1 import job_pb2_grpc
from biosegment.api.trainer.v1alpha1 import segmentation_pb2_grpc, trainer_pb2_grpc, worker_pb2_grpc
from biosegment.auth import Authorizer, PrincipalSigner, PrincipalVerifier
from biosegment.database import Database, migrate
from biosegment.errors import Unavailable
from biosegment.jobs import (
    JobCancelled,
    JobContext,
    JobResult,
    JobRunner,
    JobService,
    JobSignal,
    Resources,
    RunnerLimits,
    SqlJobs,
)
from biosegment.jobs.queue import Lane
from biosegment.jobs.runner import Handler
from biosegment.jobs.servicer import JOB_SERVICE, JobServicer
from biosegment.memberships import DatastoreMemberships
from biosegment.rpc.channel import ServiceCredentials, connect
from biosegment.rpc.server import RpcServer
from biosegment.rpc.tls import mutual_tls, towards
from biosegment.settings import ObjectStoreSettings
from biosegment.storage.objects import Objects, open_objects
from biosegment_trainer.admission import WITHOUT_GPU, Admission
from biosegment_trainer.compute.capacity import Capacity
from biosegment_trainer.compute.dispatch import Dispatch
from biosegment_trainer.compute.ray_connection import RaySettings
from biosegment_trainer.compute.ray_executor import RayExecutor
from biosegment_trainer.compute.ray_folder import default_folder
from biosegment_trainer.datastore_client import DatastoreClient
from biosegment_trainer.instances.job import InstancesJob
from biosegment_trainer.interaction.desk import open_segmenter
from biosegment_trainer.interaction.labeller import Labeller
from biosegment_trainer.interaction.line import LineLimits, SegmentLine
from biosegment_trainer.interaction.model import InteractionModels
from biosegment_trainer.interaction.service import InteractionService
from biosegment_trainer.interaction.servicer import SEGMENTATION_SERVICE, SegmentationServicer
from biosegment_trainer.interaction.task import SegmenterConfig
from biosegment_trainer.leftover import Leftovers
from biosegment_trainer.objects.job import MeasuringJob, ObjectLayers
from biosegment_trainer.prediction.crew import Crew
from biosegment_trainer.prediction.job import PredictionJob
from biosegment_trainer.prediction.requirement import PredictionRequirements
from biosegment_trainer.registry.shipped import ShippedModels, shipped_folder
from biosegment_trainer.service import ModelService, WorkerReads, WorkerReports
from biosegment_trainer.servicer import (
    TRAINER_SERVICE,
    WORKER_SERVICE,
    TrainerServicer,
    WorkerServicer,
)
from biosegment_trainer.settings import TrainerSettings
from biosegment_trainer.sql import SqlModels
from biosegment_trainer.training.job import TrainingJob
from biosegment_trainer.training.parent import ParentChoice
from biosegment_trainer.training.pretraining import PretrainingJob
from biosegment_trainer.training.requirement import TrainingRequirements

_MANY: Final = 128
_STORE_PAUSE_S: Final = 3.0


@dataclass(frozen=True, slots=True)
class Trainer:
    """A started trainer: its server, where it listens, and what works off jobs and cleans up after them."""

    server: RpcServer
    address: str
    runner: JobRunner
    leftovers: Leftovers
    shipped: ShippedModels
    line: SegmentLine

    async def work(self) -> None:
        """Run jobs, and answer clicks, until cancelled."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self.line.run())
            group.create_task(self.leftovers.run())
            group.create_task(self.shipped.run())
            group.create_task(self.runner.run())


@asynccontextmanager
async def open_trainer(settings: TrainerSettings) -> AsyncIterator[Trainer]:
    """Migrate the database, start the server, and close everything in the end; `work` is the caller's."""
    await asyncio.to_thread(migrate, settings.database_url, "biosegment_trainer")
    signer = PrincipalSigner("trainer", settings.signing_key_file)
    verifier = PrincipalVerifier.from_folder("trainer", settings.public_keys_dir)
    tls = mutual_tls(settings)
    channel = connect(
        settings.datastore_address,
        credentials=ServiceCredentials(signer, "datastore"),
        tls=towards(tls, "datastore"),
    )
    database = Database.open(settings.database_url)
    objects = await asyncio.to_thread(open_objects, settings)
    executor = RayExecutor(_ray(settings))
    try:
        await executor.sweep()
        store = ObjectStoreSettings(
            **{name: getattr(settings, name) for name in ObjectStoreSettings.model_fields}
        )
        datastore = DatastoreClient(channel, settings.object_store_url)
        authorizer = Authorizer(DatastoreMemberships(channel))
        lanes = _lanes(settings)
        models, jobs = SqlModels(database), SqlJobs(database, "trainer", JobSignal(), lanes)
        dispatch = Dispatch(
            executor,
            signer,
            store,
            settings.threads,
            settings.job_timeout_s,
            jobs,
            settings.worker_silence_s,
        )
        capacity = _capacity(settings, executor, lanes[0])
        shipped = ShippedModels(
            models, objects, shipped_folder(settings.shipped_bundles_dir), settings.default_parent
        )
        parents = ParentChoice(models, shipped.default_parent)
        admission = Admission(
            models,
            datastore,
            capacity,
            PredictionRequirements(models, objects),
            TrainingRequirements(models, parents, datastore, objects),
            ObjectLayers(datastore, objects),
        )
        line = _line(settings, store, executor)
        interaction_models = InteractionModels(
            models, shipped, settings.click_model, settings.scribble_model, settings.default_parent
        )
        interaction = InteractionService(
            authorizer,
            datastore,
            interaction_models,
            line,
            settings.segment_max_voxels,
            settings.scribble_network_features,
        )
        labeller = Labeller(authorizer, datastore, interaction_models, line, settings.segment_max_voxels)
        segmentation = SegmentationServicer(interaction, labeller)
        server = _server(
            settings, verifier, models, jobs, authorizer, datastore, objects, admission, segmentation
        )
        address = await server.start()
        dispatch.address = settings.worker_callback_address or address
        leftovers = Leftovers(objects, jobs, models, datastore.drop_layer, settings.keep_failed_s)
        runner = _runner(
            settings, models, jobs, datastore, objects, dispatch, admission, capacity, leftovers, parents
        )
        yield Trainer(server, address, runner, leftovers, shipped, line)
        await server.stop(0)
    finally:
        await executor.close()
        await channel.close()
        await objects.close()
        await database.close()


def _server(
    settings: TrainerSettings,
    verifier: PrincipalVerifier,
    models: SqlModels,
    jobs: SqlJobs,
    authorizer: Authorizer,
    datastore: DatastoreClient,
    objects: Objects,
    admission: Admission,
    segmentation: SegmentationServicer,
) -> RpcServer:
    server = RpcServer(
        settings.listen,
        verifier,
        tls=mutual_tls(settings),
        health_listen=settings.health_listen,
        allow_insecure_listen=settings.allow_insecure_listen,
    )
    service = ModelService(models, authorizer, datastore, objects, settings.max_bundle_bytes)
    job_service = JobService(jobs, authorizer, admission.kinds(), settings.max_user_jobs)
    server.add(job_pb2_grpc.add_JobServiceServicer_to_server, JobServicer(job_service), JOB_SERVICE)
    server.add(
        trainer_pb2_grpc.add_TrainerServiceServicer_to_server,
        TrainerServicer(service, settings.object_store_url),
        TRAINER_SERVICE,
    )
    server.add(
        segmentation_pb2_grpc.add_SegmentationServiceServicer_to_server,
        segmentation,
        SEGMENTATION_SERVICE,
    )
    server.add(
        worker_pb2_grpc.add_WorkerServiceServicer_to_server,
        WorkerServicer(WorkerReports(jobs), WorkerReads(jobs, datastore)),
        WORKER_SERVICE,
    )
    return server


def _runner(
    settings: TrainerSettings,
    models: SqlModels,
    jobs: SqlJobs,
    datastore: DatastoreClient,
    objects: Objects,
    dispatch: Dispatch,
    admission: Admission,
    capacity: Capacity,
    leftovers: Leftovers,
    parents: ParentChoice,
) -> JobRunner:
    crew = Crew(settings.workers_per_prediction, settings.torch_threads)
    prediction = PredictionJob(models, datastore, jobs, objects, dispatch, crew)
    handlers: dict[str, Handler] = {
        "train": TrainingJob(models, datastore, objects, dispatch, parents),
        "predict": prediction.predict,
        "score": prediction.score,
        "pretrain": PretrainingJob(models, datastore, objects, dispatch),
        "instances": InstancesJob(datastore, objects, dispatch, crew),
        "measure_objects": MeasuringJob(datastore, objects, dispatch),
    }

    def guarded(handler: Handler) -> Handler:
        async def run(context: JobContext) -> JobResult:
            await admission.recheck(context.job)
            try:
                await capacity.fill_attempt(context, dispatch, on_gpu=context.job.kind not in WITHOUT_GPU)
                return await handler(context)
            except JobCancelled:
                await leftovers.remove(context.job)
                raise
            except Unavailable as error:
                if error.reason != "OBJECT_STORE_UNAVAILABLE":
                    raise
                # Hours of work must not be lost for a restart of the store: another attempt goes on from what is there.
                await context.log(f"waiting for the object storage: {error.message}")
                await asyncio.sleep(_STORE_PAUSE_S)
                raise Unavailable("SERVICE_UNAVAILABLE", error.message) from error

        return run

    return JobRunner(
        jobs,
        {kind: guarded(handler) for kind, handler in handlers.items()},
        # The lanes say how many jobs of each kind run.
        RunnerLimits(concurrent=_MANY, poll_s=1.0),
        # An SQLite file has one trainer; on PostgreSQL a new one may start before the old one is gone.
        exclusive=settings.database_url.startswith("sqlite"),
        work_elsewhere=True,
    )


def _line(settings: TrainerSettings, store: ObjectStoreSettings, executor: RayExecutor) -> SegmentLine:
    segmenter = open_segmenter(
        settings.segment_device,
        SegmenterConfig(store, settings.segment_threads or min(4, settings.threads)),
        settings.segment_memory_bytes,
        executor,
    )
    limits = LineLimits(
        settings.segment_waiting, settings.segment_timeout_s, settings.segment_idle_s, settings.segment_warm
    )
    return SegmentLine(segmenter, limits)


def _lanes(settings: TrainerSettings) -> list[Lane]:
    """A long prediction must not keep a training waiting, nor the other way round."""
    return [
        Lane("training", frozenset({"train", "pretrain"}), settings.concurrent_trainings or 1),
        Lane(
            "prediction",
            frozenset({"predict", "score", "instances", "measure_objects"}),
            settings.concurrent_predictions,
        ),
    ]


def _capacity(settings: TrainerSettings, executor: RayExecutor, trainings: Lane) -> Capacity:
    largest = Resources(settings.ray_node_cpus, settings.ray_node_gpus, settings.ray_node_memory_bytes)
    return Capacity(
        executor.nodes,
        Resources(settings.torch_threads, memory_bytes=settings.memory_per_job_bytes),
        settings.gpus_per_job,
        largest if largest.cpus else None,
        None if settings.concurrent_trainings else trainings,
        # On this machine each lane has CPUs of its own; on a cluster a training and the predictions share them.
        shares=1 + settings.concurrent_predictions if settings.ray_address else 1,
    )


def _ray(settings: TrainerSettings) -> RaySettings:
    return RaySettings(
        address=settings.ray_address,
        cpus=settings.ray_cpus,
        temp_dir=settings.ray_temp_dir or str(default_folder(settings.database_url)),
        token=settings.ray_token.get_secret_value(),
        idle_s=settings.ray_idle_s,
        trainings=settings.concurrent_trainings,
        predictions=settings.concurrent_predictions,
    )
