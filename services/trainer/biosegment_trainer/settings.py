"""What an operator may set, as `BIOSEGMENT_TRAINER__<FIELD>`."""

from __future__ import annotations

import os
from typing import Literal

from pydantic import Field, SecretStr, field_validator

from biosegment.settings import ServiceSettings


class TrainerSettings(ServiceSettings):
    """Settings of a trainer process."""

    datastore_address: str
    """host:port or gRPC target of the datastore."""
    ray_address: str = ""
    """Address of a Ray cluster, `host:6379` or `ray://host:10001`; '' starts Ray on this machine when needed."""
    ray_token: SecretStr = SecretStr("")
    """Token of that cluster; '' leaves what Ray's own RAY_AUTH_... variables say."""
    ray_idle_s: float = Field(default=600.0, ge=0)
    """Ray is stopped, or left, when no job has used it for so long; 0 never."""
    ray_cpus: int = Field(default=0, ge=0)
    """CPUs of the local Ray; 0 for all."""
    ray_temp_dir: str = ""
    """Folder of the local Ray's sockets and logs, for nothing else and with a short path; '' makes one in /tmp."""
    torch_threads: int = Field(default=0, ge=0)
    """CPU threads of a job, or of each of its workers, and the CPUs that it reserves; 0 for all of the local Ray's,
    which workers divide."""
    gpus_per_job: int = Field(default=-1, ge=-1, le=1)
    """GPUs that a job reserves; -1: one when the cluster has any, else none."""
    memory_per_job_bytes: int = Field(default=0, ge=0)
    """Memory that a job reserves on its node; 0 reserves none."""
    ray_node_cpus: int = Field(default=0, ge=0)
    """CPUs of the largest node that a cluster which grows on demand may start; 0: of those that it has."""
    ray_node_gpus: int = Field(default=0, ge=0)
    """GPUs of that node; only with `ray_node_cpus`."""
    ray_node_memory_bytes: int = Field(default=0, ge=0)
    """Memory of that node; only with `ray_node_cpus`."""
    worker_callback_address: str = ""
    """Where workers reach this process, `trainer:50051`; '' for the address that it listens on."""
    max_user_jobs: int = Field(default=200, ge=0)
    """Trainings, predictions and the like of one user that may wait or run; 0 for any number."""
    job_timeout_s: float = Field(default=24 * 3600.0, gt=0)
    """A job that takes longer is stopped; also the lifetime of its worker's credential."""
    worker_silence_s: float = Field(default=60.0, gt=0)
    """The worker of a training that is not heard of for so long is given up: its node is cut off, or it is frozen."""
    concurrent_trainings: int = Field(default=0, ge=0, le=64)
    """Trainings at the same time; 0: one for each GPU, one where there is none."""
    concurrent_predictions: int = Field(default=1, ge=1, le=64)
    """Predictions, scorings, and what is done with their layers (instances, tables of objects) at the same time, beside
    trainings."""
    workers_per_prediction: int = Field(default=0, ge=0, le=10_000)
    """Most workers of one prediction; 0 for as many as the cluster has room for."""
    keep_failed_s: float = Field(default=7 * 24 * 3600.0, ge=0)
    """How long a failed job's checkpoints are kept, from which a retry goes on."""
    shipped_bundles_dir: str = "auto"
    """Folder of the model bundles that are shipped with the platform; 'auto' for those of this installation, '' for
    none."""
    default_parent: str = "mitochondria_vem_general"
    """Shipped model that the first training of a project starts from; '' starts with random weights. Mind its terms:
    what is trained from it inherits them."""
    click_model: str = "mitochondria_vem_clicks"
    """Shipped model that refines by clicks where a request names none; '' for none."""
    scribble_model: str = "mitochondria_vem_segmentation"
    """Shipped model whose first layers strokes may use."""
    scribble_network_features: bool = False
    """Strokes use these layers without being asked."""
    segment_max_voxels: int = Field(default=1 << 24, gt=0, le=1 << 26)
    """Largest region of one interactive segmentation."""
    segment_device: Literal["auto", "cpu", "ray"] = "auto"
    """Where interactive segmentation runs: `cpu`, a process of this service; `ray`, an actor with a GPU of the cluster;
    `auto`: the actor where any node has a GPU, else the process."""
    segment_threads: int = Field(default=0, ge=0)
    """Its CPU threads; 0 for those of this machine, four at most."""
    segment_memory_bytes: int = Field(default=8 << 30, ge=0)
    """Address space of its process; 0 for no limit."""
    segment_waiting: int = Field(default=8, ge=1)
    """Requests that may wait while one is served."""
    segment_timeout_s: float = Field(default=45.0, gt=0)
    """Longest time of one request."""
    segment_idle_s: float = Field(default=900.0, ge=0)
    """Its process, or actor, is ended when nobody has asked for so long; 0 never."""
    segment_warm: bool = False
    """Start it with the service, so that the first click does not wait for it."""
    max_bundle_bytes: int = Field(default=1 << 30, gt=0)
    """Largest zip file that ImportModel takes, and largest sum of the files in it."""

    @field_validator("ray_address")
    @classmethod
    def _host_and_port(cls, value: str) -> str:
        host, _, port = value.removeprefix("ray://").rpartition(":")
        if value and not (host and port.isdecimal()):
            raise ValueError("must be host:port or ray://host:port")
        return value

    @property
    def threads(self) -> int:
        """CPU threads of a job."""
        return self.torch_threads or self.ray_cpus or os.cpu_count() or 1
