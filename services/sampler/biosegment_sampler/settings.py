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
    cache_bytes: int = Field(default=1 << 30, ge=1 << 20)
    """Memory for what is known of pools: which candidates are taken, and how they are ranked.

    The pool that was asked for last is kept even if it takes more, about 5 bytes for each candidate and strategy.
    """
    score_pixels: int = Field(default=1 << 30, ge=0)
    """Working pixels that are scored after each training, in blocks spread evenly over the volumes; 0 for all.

    Blocks that are not scored again keep the scores of an earlier model.
    """
