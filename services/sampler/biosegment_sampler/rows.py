"""Between the sampler's values and rows of its tables."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, fields
from typing import Any

from biosegment.volume import Index, Region
from biosegment_sampler.domain.annotation import Annotation, AnnotationState
from biosegment_sampler.domain.lease import Lease
from biosegment_sampler.domain.pool import (
    Loop,
    Pool,
    PoolSettings,
    RetrainPolicy,
    StrategyShare,
    VolumeRegion,
)
from biosegment_sampler.domain.sample import Sample, SampleState
from biosegment_sampler.ports import ScoreLayer
from biosegment_sampler.tables import REGION_COLUMNS

Row = Mapping[str, Any]
Values = dict[str, Any]


def region_values(region: Region) -> Values:
    return dict(zip(REGION_COLUMNS, (*region.start, *region.stop), strict=True))


def region_from_row(row: Row) -> Region:
    numbers = [row[name] for name in REGION_COLUMNS]
    return Region(Index(*numbers[:3]), Index(*numbers[3:]))


def pool_values(pool: Pool) -> Values:
    return {
        "project_id": pool.project_id,
        "settings": _settings_document(pool.settings),
        "revision": pool.revision,
        **asdict(pool.loop),
    }


def pool_from_row(row: Row) -> Pool:
    loop = Loop(**{item.name: row[item.name] for item in fields(Loop)})
    return Pool(row["project_id"], _settings_from_document(row["settings"]), loop, row["revision"])


def _settings_document(settings: PoolSettings) -> Values:
    return {
        "strategies": [[share.strategy, share.share] for share in settings.strategies],
        "volumes": list(settings.volumes),
        "excluded": [
            [part.volume_id, list(part.region.start), list(part.region.stop)] for part in settings.excluded
        ],
        "sample_shape": list(settings.sample_shape) if settings.sample_shape else None,
        "slice_distance": settings.slice_distance,
        "lease_duration_s": settings.lease_duration_s,
        "retrain": asdict(settings.retrain),
        "seed": settings.seed,
    }


def _settings_from_document(document: Row) -> PoolSettings:
    return PoolSettings(
        strategies=tuple(StrategyShare(name, share) for name, share in document["strategies"]),
        volumes=tuple(document["volumes"]),
        excluded=tuple(
            VolumeRegion(volume, Region(Index(*start), Index(*stop)))
            for volume, start, stop in document["excluded"]
        ),
        sample_shape=Index(*document["sample_shape"]) if document["sample_shape"] else None,
        slice_distance=document["slice_distance"],
        lease_duration_s=document["lease_duration_s"],
        retrain=RetrainPolicy(**document["retrain"]),
        seed=document["seed"],
    )


def sample_values(sample: Sample) -> Values:
    lease = sample.lease or Lease("", 0.0, 0.0)
    return {
        "project_id": sample.project_id,
        "sample_id": sample.sample_id,
        "volume_id": sample.volume_id,
        **region_values(sample.region),
        "state": sample.state.value,
        "strategy": sample.strategy,
        "score": sample.score,
        "rank": sample.rank,
        "model": sample.model,
        "score_layer": sample.score_layer,
        "seed": sample.seed,
        "holder": lease.holder,
        "lease_issued_at": lease.issued_at,
        "lease_expires_at": lease.expires_at,
        "annotation": sample.annotation,
        "skip_reason": sample.skip_reason,
        "notice": sample.notice,
        "created_at": sample.created_at,
    }


def sample_from_row(row: Row) -> Sample:
    lease = Lease(row["holder"], row["lease_issued_at"], row["lease_expires_at"]) if row["holder"] else None
    return Sample(
        sample_id=row["sample_id"],
        project_id=row["project_id"],
        volume_id=row["volume_id"],
        region=region_from_row(row),
        state=SampleState(row["state"]),
        strategy=row["strategy"],
        created_at=row["created_at"],
        score=row["score"],
        rank=row["rank"],
        model=row["model"],
        score_layer=row["score_layer"],
        seed=row["seed"],
        lease=lease,
        annotation=row["annotation"],
        skip_reason=row["skip_reason"],
        notice=row["notice"],
    )


def annotation_values(project_id: str, annotation: Annotation) -> Values:
    return {
        "project_id": project_id,
        "name": annotation.name,
        "sequence": annotation.sequence,
        "volume_id": annotation.volume_id,
        **region_values(annotation.region),
        "author": annotation.author,
        "sample_id": annotation.sample_id,
        "work_time_s": annotation.work_time_s,
        "voxel_counts": {str(value): count for value, count in annotation.voxel_counts.items()},
        "created_at": annotation.created_at,
        "state": annotation.state.value,
        "in_latest_model": annotation.in_latest_model,
    }


def annotation_from_row(row: Row) -> Annotation:
    return Annotation(
        name=row["name"],
        sequence=row["sequence"],
        volume_id=row["volume_id"],
        region=region_from_row(row),
        author=row["author"],
        sample_id=row["sample_id"],
        work_time_s=row["work_time_s"],
        voxel_counts={int(value): count for value, count in row["voxel_counts"].items()},
        created_at=row["created_at"],
        state=AnnotationState(row["state"]),
        in_latest_model=row["in_latest_model"],
    )


def layer_values(project_id: str, model: str, layer: ScoreLayer) -> Values:
    z, y, x = layer.downsampling
    return {
        "project_id": project_id,
        "name": layer.name,
        "model": model,
        "volume_id": layer.volume_id,
        "measure": layer.measure,
        "uri": layer.uri,
        "z_factor": z,
        "y_factor": y,
        "x_factor": x,
    }


def layer_from_row(row: Row) -> ScoreLayer:
    factor = Index(row["z_factor"], row["y_factor"], row["x_factor"])
    return ScoreLayer(row["name"], row["volume_id"], row["measure"], row["uri"], factor)
