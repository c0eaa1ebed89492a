"""Voxels that come through the trainer, since no worker can reach them itself."""

from __future__ import annotations

import random
import time
from collections.abc import Iterator
from datetime import datetime
from types import TracebackType
from typing import Any, Final, Self

import grpc
import numpy as np
from numpy.typing import NDArray

from biosegment.api.trainer.v1alpha1 import worker_pb2
from biosegment.errors import DeadlineExceeded, Unavailable
from biosegment.rpc.call import MAX_MESSAGE_BYTES, bearer
from biosegment.rpc.errors import from_rpc_error
from biosegment.rpc.geometry import region_to_proto
from biosegment.rpc.region import RegionAssembler
from biosegment.volume import Index, Region
from biosegment_trainer.compute.callback_channel import open_channel
from biosegment_trainer.compute.report import Reporter
from biosegment_trainer.compute.task import Callback

_METHOD: Final = "/biosegment.api.trainer.v1alpha1.WorkerService/ReadVoxels"
_CALL_VOXELS: Final = 1 << 25
"""Of one call: what a break costs, and well below what one call may move, whatever the element type."""

_CALL_TIMEOUT_S: Final = 600.0
_GIVE_UP_S: Final = 120.0
_FIRST_PAUSE_S: Final = 0.2
_LAST_PAUSE_S: Final = 5.0


class StreamedVoxels:
    """Reads a volume through the trainer; a `VoxelReader` for one thread.

    Args:
        volume: Resource name.
        callback: Where the trainer is, and the credential of the job.
        reporter: Asked whether to go on; told when the voxels cannot be had for a while.
        give_up_s: So long it tries before an outage ends the task.
        edits_as_of: `volume` names a layer of instances, whose objects are read with the edits that held then.
    """

    def __init__(
        self,
        volume: str,
        callback: Callback,
        reporter: Reporter,
        give_up_s: float = _GIVE_UP_S,
        edits_as_of: datetime | None = None,
    ) -> None:
        self._volume = volume
        self._callback = callback
        self._reporter = reporter
        self._give_up_s = give_up_s
        self._edits_as_of = edits_as_of
        self._channel = open_channel(
            callback.address,
            options=[
                ("grpc.max_receive_message_length", MAX_MESSAGE_BYTES),
                ("grpc.keepalive_time_ms", 30_000),
                ("grpc.keepalive_timeout_ms", 10_000),
                ("grpc.max_reconnect_backoff_ms", 2_000),
                ("grpc.enable_retries", 0),
            ],
        )
        # In bytes: voxels are taken out of the messages without copying them twice.
        self._read: Any = self._channel.unary_stream(
            _METHOD, request_serializer=worker_pb2.ReadVoxelsRequest.SerializeToString
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._channel.close()

    def read(self, region: Region) -> NDArray[np.generic]:
        """Voxels (z, y, x) of a region of level 0, in calls of at most 32 Mi voxels.

        Raises:
            Unavailable: SOURCE_GONE and others, for longer than `give_up_s`.
            BiosegmentError: What else the datastore says: SOURCE_CHANGED, VOLUME_NOT_FOUND ...
            Stopped: The job was cancelled.
        """
        parts = list(_cut(region))
        if len(parts) == 1:
            return self._patiently(region)
        whole: NDArray[np.generic] | None = None
        for part in parts:
            voxels = self._patiently(part)
            if whole is None:
                whole = np.empty(region.shape, voxels.dtype)
            whole[part.relative_to(region).slices] = voxels
        assert whole is not None
        return whole

    def _patiently(self, region: Region) -> NDArray[np.generic]:
        failed_s: float | None = None
        pause_s = _FIRST_PAUSE_S
        while True:
            self._reporter.check()
            try:
                return self._once(region)
            except (Unavailable, DeadlineExceeded) as error:
                now_s = time.monotonic()
                if failed_s is None:
                    failed_s = now_s
                    self._reporter.log(f"waiting for voxels of {self._volume}: {error.message}")
                if now_s - failed_s >= self._give_up_s:
                    raise
            time.sleep(pause_s * random.uniform(0.5, 1.0))
            pause_s = min(2 * pause_s, _LAST_PAUSE_S)

    def _once(self, region: Region) -> NDArray[np.generic]:
        request = worker_pb2.ReadVoxelsRequest(
            job=f"jobs/{self._callback.job_id}",
            attempt=self._callback.attempt,
            volume=self._volume,
            region=region_to_proto(region),
            as_of=self._edits_as_of,
        )
        assembler = RegionAssembler(f"{region} of {self._volume}", region.shape)
        call = self._read(request, timeout=_CALL_TIMEOUT_S, metadata=bearer(self._callback.token))
        try:
            for message in call:
                self._reporter.check()
                assembler.take(message)
        except grpc.RpcError as failure:
            raise from_rpc_error(failure, self._callback.address) from failure
        finally:
            call.cancel()
        return assembler.finish()


def _cut(region: Region) -> Iterator[Region]:
    """Parts of at most `_CALL_VOXELS`: slices, or when one slice is larger, rows of it."""
    z, y, x = region.shape
    deep = max(1, min(z, _CALL_VOXELS // (y * x)))
    high = y if deep > 1 or y * x <= _CALL_VOXELS else max(1, _CALL_VOXELS // x)
    for low_z in range(region.start.z, region.stop.z, deep):
        for low_y in range(region.start.y, region.stop.y, high):
            start = Index(low_z, low_y, region.start.x)
            stop = Index(min(low_z + deep, region.stop.z), min(low_y + high, region.stop.y), region.stop.x)
            yield Region(start, stop)
