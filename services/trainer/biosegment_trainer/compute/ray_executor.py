"""Tasks on Ray, which is imported, and started on this machine or connected to, when the first task comes."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, TypeVar

import structlog

from biosegment.errors import DeadlineExceeded, Internal, Unavailable
from biosegment.jobs import JobCrashed
from biosegment_trainer.compute.ray_folder import prepare, remove
from biosegment_trainer.compute.ray_head import HeadOptions, RayHead
from biosegment_trainer.compute.task import Outcome, Task
from biosegment_trainer.compute.worker import run

_T = TypeVar("_T")
_STOP_WITHIN_S: Final = 20.0
_log = structlog.get_logger("biosegment_trainer.ray")


@dataclass(frozen=True, slots=True)
class RaySettings:
    """How to reach or start Ray; fields as in `TrainerSettings`, `temp_dir` is set for a local Ray."""

    address: str = ""
    cpus: int = 0
    temp_dir: str = ""
    task_cpus: int = 1
    gpus_per_job: int = -1


class RayExecutor:
    """`Executor` on Ray. All calls into Ray that may block run in one thread of their own."""

    def __init__(self, settings: RaySettings) -> None:
        self._settings = settings
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="ray")
        self._head: RayHead | None = None
        self._ray: Any = None
        self._remote: Any = None

    async def run(self, task: Task, cancelled: asyncio.Event, timeout_s: float) -> Outcome:
        """As `Executor.run`."""
        reference = await self._call(lambda: self._submit(task))
        result = asyncio.ensure_future(asyncio.wrap_future(reference.future()))
        stop = asyncio.ensure_future(cancelled.wait())
        try:
            await asyncio.wait({result, stop}, timeout=timeout_s, return_when=asyncio.FIRST_COMPLETED)
            timed_out = not result.done() and not cancelled.is_set()
            if not result.done():
                # The worker hears of a cancellation with its next report and stops by itself.
                await asyncio.wait({result}, timeout=_STOP_WITHIN_S if cancelled.is_set() else 0)
            if not result.done():
                await self._kill(reference)
            if timed_out:
                raise DeadlineExceeded(
                    "JOB_TOO_SLOW", f"the job took longer than the {timeout_s:g} s that the trainer allows"
                )
            if not result.done():
                return Outcome(cancelled=True)
            return self._outcome(result)
        except asyncio.CancelledError:
            await self._kill(reference)
            raise
        finally:
            stop.cancel()
            result.cancel()

    async def sweep(self) -> None:
        """End what a local Ray of an earlier process of this trainer left behind."""
        if not self._settings.address:
            await self._call(lambda: prepare(Path(self._settings.temp_dir)))

    async def close(self) -> None:
        """Stop a local Ray, or leave the cluster."""
        if self._ray is not None:
            await self._call(self._ray.shutdown)
            self._ray = None
        if self._head is not None:
            await self._call(self._head.stop)
            self._head = None
        if not self._settings.address:
            await self._call(lambda: remove(Path(self._settings.temp_dir)))
        self._thread.shutdown(wait=False)

    async def _call(self, function: Callable[[], _T]) -> _T:
        return await asyncio.get_running_loop().run_in_executor(self._thread, function)

    async def _kill(self, reference: Any) -> None:
        try:
            await self._call(lambda: self._ray.cancel(reference, force=True))
        except Exception as error:
            _log.warning("ray_cancel_failed", error=str(error))

    def _outcome(self, result: asyncio.Future[Any]) -> Outcome:
        error = result.exception()
        if error is None:
            outcome: Outcome = result.result()
            return outcome
        if isinstance(error, self._ray.exceptions.TaskCancelledError):
            return Outcome(cancelled=True)
        if isinstance(error, self._ray.exceptions.RayTaskError):
            _log.error("task_failed", exc_info=error)
            raise Internal("WORKER_FAILED", f"the worker failed: {str(error).strip().splitlines()[-1][:300]}")
        raise JobCrashed(f"the worker died: {str(error).strip().splitlines()[0][:200]}")

    def _submit(self, task: Task) -> Any:
        ray = self._connected()
        gpus = self._settings.gpus_per_job
        if gpus < 0:
            gpus = 1 if ray.cluster_resources().get("GPU", 0) >= 1 else 0
        # Ray's own retries would run an attempt twice under one number.
        options = {"num_cpus": self._settings.task_cpus, "num_gpus": gpus, "max_retries": 0}
        return self._remote.options(**options).remote(task)

    def _connected(self) -> Any:
        if self._ray is not None and (self._head is None or self._head.is_alive):
            return self._ray
        if self._ray is not None:
            _log.warning("ray_head_lost")
            self._ray.shutdown()
            self._ray = None
        address = self._settings.address
        if not address:
            folder = Path(self._settings.temp_dir)
            prepare(folder)
            self._head = RayHead(HeadOptions(self._settings.cpus, str(folder)))
            address = self._head.address
        import ray

        try:
            ray.init(address=address, namespace="biosegment", log_to_driver=False, configure_logging=False)
        except Exception as error:
            raise Unavailable("RAY_UNAVAILABLE", f"cannot use Ray at {address}: {error}") from error
        _log.info("ray_ready", address=address, resources=ray.cluster_resources())
        self._ray = ray
        self._remote = ray.remote(run)
        return ray
