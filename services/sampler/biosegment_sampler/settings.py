"""What an operator may set, as `BIOSEGMENT_SAMPLER__<FIELD>`."""

from __future__ import annotations

from pydantic import Field

from biosegment.settings import ServiceSettings


class SamplerSettings(ServiceSettings):
    """Settings of a sampler process."""

    datastore_address: str
    """host:port or gRPC target of the datastore."""
    trainer_address: str
    """host:port or gRPC target of the trainer."""
    poll_interval_s: float = Field(default=2.0, ge=0.05, le=3600)
    """How often the loop looks for annotations, ended jobs and models made by hand."""
