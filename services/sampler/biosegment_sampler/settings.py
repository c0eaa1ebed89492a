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
    score_pixels: int = Field(default=1 << 30, ge=0)
    """Working pixels that are scored after each training, in blocks spread evenly over the volumes; 0 for all.

    Blocks that are not scored again keep the scores of an earlier model.
    """
