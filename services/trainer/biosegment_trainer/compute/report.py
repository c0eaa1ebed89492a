"""How a worker tells the trainer where it stands, and learns that it should stop."""

from __future__ import annotations

import math
import threading
import time
from types import TracebackType
from typing import Any, Final, Self

import grpc

from biosegment.api.trainer.v1alpha1 import worker_pb2, worker_pb2_grpc
from biosegment.errors import BiosegmentError, Conflict, Unavailable
from biosegment.rpc.call import bearer
from biosegment.rpc.errors import from_rpc_error
from biosegment_trainer.compute.callback_channel import open_channel
from biosegment_trainer.compute.task import Callback

_EVERY_S: Final = 0.7
_GIVE_UP_S: Final = 600.0


class Stopped(Exception):
    """The job was cancelled."""


class Reporter:
    """Sends the newest progress from a thread of its own, so that the work never waits for the network.

    A worker whose attempt has been taken over, or that has not reached the trainer for ten minutes, is an
    orphan: `check` raises, and the worker ends.
    """

    def __init__(self, callback: Callback) -> None:
        self._callback = callback
        self._channel = open_channel(callback.address)
        self._stub = worker_pb2_grpc.WorkerServiceStub(self._channel)
        self._lock = threading.Lock()
        self._message = self._empty()
        self._lines: list[str] = []
        self._news = False
        self._error: BiosegmentError | None = None
        self._cancelled = False
        self._ended = threading.Event()
        self._reached_s = time.monotonic()
        self._thread = threading.Thread(target=self._send_for_ever, name="report", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ended.set()
        self._thread.join(timeout=10)
        self._channel.close()

    def progress(
        self,
        fraction: float,
        step: str,
        done: int = 0,
        total: int = 0,
        unit: str = "",
        **metrics: float,
    ) -> None:
        """Note where the task stands; `fraction` 0..1 of the task. Metrics that are not finite are none: JSON has no
        NaN, and not every database would store it.
        """
        first, last = self._callback.first, self._callback.last
        with self._lock:
            self._message.fraction = first + (last - first) * min(1.0, max(0.0, fraction))
            self._message.step = step
            self._message.done, self._message.total, self._message.unit = done, total, unit
            for name, value in metrics.items():
                if math.isfinite(value):
                    self._message.metrics[name] = value
                else:
                    self._message.metrics.pop(name, None)
            self._news = True

    def log(self, text: str) -> None:
        """Add a line to the job's log."""
        with self._lock:
            self._lines.append(text)
            self._news = True

    def check(self) -> None:
        """Return when the work should go on.

        Raises:
            Stopped: The job was cancelled.
            Conflict: ATTEMPT_OUTDATED: write nothing more.
            Unavailable: TRAINER_LOST.
        """
        if self._error is not None:
            raise self._error
        if self._cancelled:
            raise Stopped

    @property
    def should_stop(self) -> bool:
        """Whether `check` would raise."""
        return self._cancelled or self._error is not None

    def _empty(self) -> worker_pb2.ReportProgressRequest:
        return worker_pb2.ReportProgressRequest(
            job=f"jobs/{self._callback.job_id}", attempt=self._callback.attempt
        )

    def _send_for_ever(self) -> None:
        while not self._ended.wait(_EVERY_S):
            self._send()
        if self._news and not self.should_stop:
            self._send()

    def _send(self) -> None:
        with self._lock:
            message = self._empty()
            message.CopyFrom(self._message)
            lines, self._lines = self._lines, []
            message.log.extend(lines)
            self._news = False
        try:
            metadata: Any = bearer(self._callback.token)
            answer = self._stub.ReportProgress(message, timeout=10, metadata=metadata)
        except grpc.RpcError as failure:
            self._failed(from_rpc_error(failure, self._callback.address), lines)
            return
        self._reached_s = time.monotonic()
        self._cancelled = self._cancelled or answer.cancel

    def _failed(self, error: BiosegmentError, lines: list[str]) -> None:
        with self._lock:
            self._lines = lines + self._lines
        if isinstance(error, Conflict):
            self._error = error
        elif time.monotonic() - self._reached_s > _GIVE_UP_S:
            self._error = Unavailable(
                "TRAINER_LOST", f"the trainer at {self._callback.address} has not answered for ten minutes"
            )
