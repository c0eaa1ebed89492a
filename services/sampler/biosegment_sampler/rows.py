"""Between the sampler's values and rows of its tables."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, fields
from typing import Any

from biosegment.volume import Index, Region
from biosegment_sampler.domain.annotation import Annotation, AnnotationState
from biosegment_sampler.domain.event import Action, Event, Flag
from biosegment_sampler.domain.lease import Lease, Purpose
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
from biosegment_sampler.strategies import Passes
from biosegment_sampler.tables import REGION_COLUMNS

_LOOP_FIELDS = tuple(item.name for item in fields(Loop))

Row = Mapping[str, Any]
Values = dict[str, Any]


def region_values(region: Region) -> Values:
    return dict(zip(REGION_COLUMNS, (*region.start, *region.stop), strict=True))


def region_from_row(row: Row) -> Region:
    return region_of([row[name] for name in REGION_COLUMNS])


def region_of(corners: Sequence[int]) -> Region:
    """A region from the values of its columns, in their order."""
    return Region(Index(*corners[:3]), Index(*corners[3:]))


def pool_values(pool: Pool) -> Values:
    return {
        "project_id": pool.project_id,
        "settings": _settings_document(pool.settings),
        "revision": pool.revision,
        **asdict(pool.loop),
    }


def pool_from_row(row: Row) -> Pool:
    settings = _settings_from_document(row["settings"])
    return Pool(row["project_id"], settings, loop_from_row(row), row["revision"])


def loop_from_row(row: Row) -> Loop:
    return Loop(**{name: row[name] for name in _LOOP_FIELDS})


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
        "heartbeat_timeout_s": settings.heartbeat_timeout_s,
        "second_annotator_share": settings.second_annotator_share,
        "retrain": asdict(settings.retrain),
        "seed": settings.seed,
    }


def _settings_from_document(document: Row) -> PoolSettings:
    known = PoolSettings()
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
        # Rows of earlier releases lack these.
        heartbeat_timeout_s=document.get("heartbeat_timeout_s", known.heartbeat_timeout_s),
        second_annotator_share=document.get("second_annotator_share", known.second_annotator_share),
        retrain=RetrainPolicy(**document["retrain"]),
        seed=document["seed"],
    )


def lease_values(lease: Lease) -> Values:
    return {
        "holder": lease.holder,
        "holder_name": lease.holder_name,
        "session": lease.session,
        "lease_issued_at": lease.issued_at,
        "lease_expires_at": lease.expires_at,
        "lease_active_at": lease.active_at,
        "lease_heartbeat_at": lease.heartbeat_at,
    }


def lease_from_row(row: Row, purpose: Purpose = Purpose.ANNOTATE) -> Lease:
    return Lease(
        row["holder"],
        row["lease_issued_at"],
        row["lease_expires_at"],
        row["holder_name"],
        row["session"],
        row["lease_active_at"],
        row["lease_heartbeat_at"],
        purpose,
    )


def sample_values(sample: Sample) -> Values:
    lease = sample.lease or Lease("", 0.0, 0.0)
    flag = sample.flag or Flag("", "", 0.0)
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
        "score_downsampling": list(sample.score_downsampling),
        "seed": sample.seed,
        **lease_values(lease),
        "purpose": lease.purpose.value,
        "annotation": sample.annotation,
        "skip_reason": sample.skip_reason,
        "notice": sample.notice,
        "created_at": sample.created_at,
        "skipped_by": sample.skipped_by,
        "term": sample.term,
        "flag_text": flag.text,
        "flag_user": flag.user,
        "flag_at": flag.created_at,
        "events": [[each.time, each.user, each.action.value, each.text] for each in sample.events],
        "wants_second": sample.wants_second,
        "authors": sample.authors,
        "dealt": sample.dealt,
    }


def sample_from_row(row: Row) -> Sample:
    lease = lease_from_row(row, Purpose(row["purpose"])) if row["holder"] else None
    flag = Flag(row["flag_text"], row["flag_user"], row["flag_at"]) if row["flag_text"] else None
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
        score_downsampling=Index(*row["score_downsampling"]),
        seed=row["seed"],
        lease=lease,
        annotation=row["annotation"],
        skip_reason=row["skip_reason"],
        notice=row["notice"],
        skipped_by=row["skipped_by"],
        term=row["term"],
        flag=flag,
        events=events_from_row(row),
        wants_second=row["wants_second"],
        authors=row["authors"],
        dealt=row["dealt"],
    )


def events_from_row(row: Row) -> tuple[Event, ...]:
    return tuple(Event(time, user, Action(action), text) for time, user, action, text in row["events"])


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
        "passes": layer.passes.value,
    }


def layer_from_row(row: Row) -> ScoreLayer:
    factor = Index(row["z_factor"], row["y_factor"], row["x_factor"])
    return ScoreLayer(
        row["name"],
        row["volume_id"],
        row["measure"],
        row["uri"],
        factor,
        passes=Passes(row["passes"]),
    )
