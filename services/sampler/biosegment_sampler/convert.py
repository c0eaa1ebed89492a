"""Between messages and the sampler's values."""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
from collections.abc import Callable, Iterable
from typing import Any, Final

from google.protobuf.timestamp_pb2 import Timestamp

from biosegment.api.sampler.v1alpha1 import sampler_pb2 as pb
from biosegment.errors import InvalidArgument
from biosegment.ids import parse_name
from biosegment.rpc.geometry import index_from_proto, index_to_proto, region_from_proto, region_to_proto
from biosegment_sampler.desk import SampleView
from biosegment_sampler.domain.event import Event
from biosegment_sampler.domain.lease import Lease, Purpose
from biosegment_sampler.domain.pool import PoolSettings, RetrainPolicy, StrategyShare, VolumeRegion
from biosegment_sampler.domain.sample import SampleState
from biosegment_sampler.service import PoolView
from biosegment_sampler.strategies import Strategy

_STATES: Final = {
    SampleState.LEASED: pb.Sample.STATE_LEASED,
    SampleState.ANNOTATED: pb.Sample.STATE_ANNOTATED,
    SampleState.SKIPPED: pb.Sample.STATE_SKIPPED,
    SampleState.OPEN: pb.Sample.STATE_OPEN,
}
_PURPOSES: Final = {
    Purpose.ANNOTATE: pb.Lease.PURPOSE_ANNOTATE,
    Purpose.CORRECT: pb.Lease.PURPOSE_CORRECT,
    Purpose.SECOND: pb.Lease.PURPOSE_SECOND,
}
_DEFAULTS: Final = PoolSettings()


def pool_to_proto(view: PoolView) -> pb.Pool:
    pool, settings = view.pool, view.pool.settings
    return pb.Pool(
        name=f"projects/{pool.project_id}/pool",
        strategies=[
            pb.StrategyShare(strategy=share.strategy, share=share.share) for share in settings.strategies
        ],
        volumes=[f"projects/{pool.project_id}/volumes/{volume}" for volume in settings.volumes],
        excluded=[
            pb.VolumeRegion(
                volume=f"projects/{pool.project_id}/volumes/{part.volume_id}",
                region=region_to_proto(part.region),
            )
            for part in settings.excluded
        ],
        sample_shape=index_to_proto(settings.sample_shape) if settings.sample_shape else None,
        slice_distance=settings.slice_distance,
        lease_duration_s=settings.lease_duration_s,
        heartbeat_timeout_s=settings.heartbeat_timeout_s,
        second_annotator_share=settings.second_annotator_share,
        retrain=pb.RetrainPolicy(
            manual=settings.retrain.manual,
            after_annotations=settings.retrain.after_annotations,
            after_idle_s=settings.retrain.after_idle_s,
        ),
        seed=settings.seed,
        scored_model=pool.loop.scored_model,
        latest_model=pool.loop.latest_model,
        active_job=pool.loop.active_job,
        failure=pool.loop.failure,
        etag=pool.etag,
        open_candidates=view.open_candidates,
    )


def pool_changes(project_id: str, message: pb.Pool, paths: Iterable[str]) -> dict[str, Any]:
    """The fields of `PoolSettings` that an update mask names; a field that is not set gets its default.

    Raises:
        InvalidArgument: BAD_UPDATE_MASK; BAD_NAME for volumes of other projects; those of `PoolSettings`.
    """
    readers: dict[str, Callable[[], Any]] = {
        "strategies": lambda: _strategies(message),
        "volumes": lambda: tuple(_volume_id(project_id, name) for name in message.volumes),
        "excluded": lambda: tuple(
            VolumeRegion(_volume_id(project_id, part.volume), region_from_proto(part.region))
            for part in message.excluded
        ),
        "sample_shape": lambda: (
            index_from_proto(message.sample_shape) if message.HasField("sample_shape") else None
        ),
        "slice_distance": lambda: message.slice_distance or _DEFAULTS.slice_distance,
        "lease_duration_s": lambda: message.lease_duration_s or _DEFAULTS.lease_duration_s,
        "heartbeat_timeout_s": lambda: message.heartbeat_timeout_s or _DEFAULTS.heartbeat_timeout_s,
        "second_annotator_share": lambda: message.second_annotator_share,
        "retrain": lambda: _retrain(message.retrain),
        "seed": lambda: message.seed,
    }
    wanted = list(dict.fromkeys(paths))
    unknown = [path for path in wanted if path not in readers]
    if unknown or not wanted:
        raise InvalidArgument(
            "BAD_UPDATE_MASK",
            f"update_mask {wanted} must name some of {', '.join(readers)}, and nothing else",
        )
    return {path: readers[path]() for path in wanted}


def _strategies(message: pb.Pool) -> tuple[StrategyShare, ...]:
    shares = tuple(StrategyShare(share.strategy, share.share) for share in message.strategies)
    return shares or _DEFAULTS.strategies


def _retrain(message: pb.RetrainPolicy) -> RetrainPolicy:
    after = message.after_annotations or _DEFAULTS.retrain.after_annotations
    return RetrainPolicy(message.manual, after, message.after_idle_s)


def _volume_id(project_id: str, name: str) -> str:
    owner, volume_id = parse_name(name, "projects/*/volumes/*")
    if owner != project_id:
        raise InvalidArgument("BAD_NAME", f"{name} is not a volume of project {project_id!r}")
    return volume_id


def volume_id_of(project_id: str, name: str) -> str:
    """Id of a volume of the project, '' for ''. Raises InvalidArgument BAD_NAME."""
    return _volume_id(project_id, name) if name else ""


def sample_to_proto(view: SampleView) -> pb.Sample:
    sample, state = view.sample, view.sample.state_at(view.now)
    message = pb.Sample(
        name=sample.name,
        volume=sample.volume,
        region=region_to_proto(sample.region),
        state=_STATES[state],
        strategy=sample.strategy,
        score=sample.score,
        rank=sample.rank,
        model=sample.model,
        score_layer=sample.score_layer,
        score_region=region_to_proto(sample.score_region) if sample.score_region else None,
        seed=sample.seed,
        annotation="" if view.is_blind else sample.annotation,
        skip_reason=sample.skip_reason,
        skipped_by=sample.skipped_by,
        notice=sample.notice,
        create_time=timestamp(sample.created_at),
        earlier_annotation=view.earlier,
        events=() if view.is_blind else map(_event, sample.events),
    )
    if sample.flag is not None:
        flag = sample.flag
        message.flag.CopyFrom(pb.Flag(text=flag.text, user=flag.user, create_time=timestamp(flag.created_at)))
    if state is SampleState.LEASED and sample.lease is not None:
        message.lease.CopyFrom(_lease(view, sample.lease))
    return message


def _lease(view: SampleView, lease: Lease) -> pb.Lease:
    return pb.Lease(
        token=view.token,
        holder=lease.holder,
        # The token ends at a full second.
        expire_time=timestamp(int(lease.expires_at)),
        holder_name=lease.holder_name or lease.holder,
        session=lease.session if view.is_mine else "",
        activity_time=timestamp(lease.active_at),
        heartbeat_time=timestamp(lease.heartbeat_at) if lease.heartbeat_at else None,
        purpose=_PURPOSES[lease.purpose],
    )


def _event(event: Event) -> pb.SampleEvent:
    return pb.SampleEvent(
        time=timestamp(event.time),
        user=event.user,
        action=f"ACTION_{event.action.name}",
        text=event.text,
    )


def states_from_proto(states: Iterable[int]) -> frozenset[SampleState]:
    """Raises InvalidArgument BAD_STATE."""
    known: dict[int, SampleState] = {number: state for state, number in _STATES.items()}
    wanted = list(states)
    if any(number not in known for number in wanted):
        raise InvalidArgument("BAD_STATE", f"states {wanted} are not all states of a sample")
    return frozenset(known[number] for number in wanted)


def strategy_to_proto(strategy: Strategy) -> pb.Strategy:
    return pb.Strategy(
        strategy=strategy.name,
        description=strategy.description,
        measures=strategy.measures,
        cold_start=strategy.cold_start,
    )


def page_size(wanted: int, largest: int = 500, default: int = 50) -> int:
    """Raises InvalidArgument BAD_PAGE_SIZE."""
    if not 0 <= wanted <= largest:
        raise InvalidArgument(
            "BAD_PAGE_SIZE", f"page_size {wanted} is not within 1..{largest} (0 for {default})"
        )
    return wanted or default


def write_token(last: str, *query: object) -> str:
    """Token of the page after `last`, good for the same query only."""
    return base64.urlsafe_b64encode(json.dumps([_digest(query), last]).encode()).decode()


def read_token(token: str, *query: object) -> str:
    """What `write_token` was given, '' for the first page. Raises InvalidArgument BAD_PAGE_TOKEN."""
    if not token:
        return ""
    try:
        digest, last = json.loads(base64.urlsafe_b64decode(token.encode()))
    except (binascii.Error, ValueError, TypeError):
        digest, last = "", ""
    if digest != _digest(query) or not isinstance(last, str):
        raise InvalidArgument(
            "BAD_PAGE_TOKEN",
            f"page_token {token[:80]!r} is not from an answer to the same query; begin without one",
        )
    return last


def _digest(query: tuple[object, ...]) -> str:
    return hashlib.sha256(repr(query).encode()).hexdigest()[:16]


def timestamp(seconds: float) -> Timestamp:
    message = Timestamp()
    message.FromNanoseconds(int(seconds * 1e9))
    return message
