"""What an operator may set, as `BIOSEGMENT_TRAINER__<FIELD>`."""

from __future__ import annotations

import os

from pydantic import Field, SecretStr

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
    """CPU threads of a job, and the CPUs that it reserves; 0 for all of the local Ray's."""
    gpus_per_job: int = Field(default=-1, ge=-1, le=1)
    """GPUs that a job reserves; -1: one when the cluster has any, else none."""
    worker_callback_address: str = ""
    """Where workers reach this process, `trainer:50051`; '' for the address that it listens on."""
    job_timeout_s: float = Field(default=24 * 3600.0, gt=0)
    """A job that takes longer is stopped; also the lifetime of its worker's credential."""
    concurrent_jobs: int = Field(default=1, ge=1, le=64)
    """Jobs at the same time."""
    max_bundle_bytes: int = Field(default=1 << 30, gt=0)
    """Largest zip file that ImportModel takes, and largest sum of the files in it."""

    @property
    def threads(self) -> int:
        """CPU threads of a job."""
        return self.torch_threads or self.ray_cpus or os.cpu_count() or 1
