"""The warm process on this machine's CPUs, seen from the trainer."""

from __future__ import annotations

import asyncio
import contextlib
import os
import pickle
import signal
import sys
from typing import Final

import structlog

from biosegment.errors import BiosegmentError, Unavailable
from biosegment_trainer.interaction.child import LENGTH, READY
from biosegment_trainer.interaction.task import LabelTask, SegmentAnswer, SegmenterConfig, SegmentTask

_START_WITHIN_S: Final = 180.0
"""Seconds usually; who gives up on a busy machine begins again and again."""
_INHERITED: Final = ("PATH", "HOME", "LANG", "LC_ALL", "TMPDIR", "PYTHONPATH", "VIRTUAL_ENV")
_log = structlog.get_logger("biosegment_trainer.interaction")


class ProcessSegmenter:
    """`Segmenter` in a child process, started when it is needed and again when it died.

    Args:
        config: Of the process.
        memory_bytes: Address space that it may use; 0 for no limit.
    """

    def __init__(self, config: SegmenterConfig, memory_bytes: int) -> None:
        self._config = config
        self._memory_bytes = memory_bytes
        self._process: asyncio.subprocess.Process | None = None

    @property
    def pid(self) -> int | None:
        """Of the process; None when there is none."""
        return self._process.pid if self._process is not None else None

    async def segment(self, task: SegmentTask | LabelTask) -> SegmentAnswer:
        """As `Segmenter.segment`."""
        data = await asyncio.to_thread(pickle.dumps, task, pickle.HIGHEST_PROTOCOL)
        process = await self._started()
        try:
            answer = await self._ask(process, data)
        except (ConnectionError, asyncio.IncompleteReadError) as error:
            await self.close()
            raise Unavailable(
                "SEGMENTER_DIED",
                f"the process that segments died (status {process.returncode}) over the request; try again, and if it "
                "dies again, with a smaller region",
            ) from error
        except BaseException:
            # Somebody else's answer must not be taken for that of the next request.
            await self.close()
            raise
        if isinstance(answer, BiosegmentError):
            raise answer
        assert isinstance(answer, SegmentAnswer)
        return answer

    async def warm(self) -> None:
        """As `Segmenter.warm`."""
        await self._started()

    async def close(self) -> None:
        """As `Segmenter.close`."""
        process, self._process = self._process, None
        if process is None:
            return
        assert process.stdin is not None
        process.stdin.close()
        if process.returncode is None:
            # Not `process.kill()`: it polls, and so may take the exit status away from the event loop's watcher.
            with contextlib.suppress(ProcessLookupError):
                os.kill(process.pid, signal.SIGKILL)
        await process.wait()

    async def _started(self) -> asyncio.subprocess.Process:
        if self._process is not None and self._process.returncode is None:
            return self._process
        await self.close()
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "biosegment_trainer.interaction.child",
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            env=self._environment(),
            limit=1 << 20,
        )
        self._process = process
        try:
            async with asyncio.timeout(_START_WITHIN_S):
                config = (self._config, self._memory_bytes)
                ready = await self._ask(process, pickle.dumps(config, pickle.HIGHEST_PROTOCOL))
            assert ready == READY
        except (ConnectionError, asyncio.IncompleteReadError, TimeoutError) as error:
            await self.close()
            raise Unavailable(
                "SEGMENTER_UNAVAILABLE",
                f"the process that segments does not start (status {process.returncode}); see the trainer's log",
            ) from error
        except BaseException:
            await self.close()
            raise
        _log.info("segmenter_ready", pid=process.pid, threads=self._config.threads)
        return process

    async def _ask(self, process: asyncio.subprocess.Process, data: bytes) -> object:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(LENGTH.pack(len(data)))
        process.stdin.write(data)
        await process.stdin.drain()
        (length,) = LENGTH.unpack(await process.stdout.readexactly(LENGTH.size))
        return pickle.loads(await process.stdout.readexactly(length))

    def _environment(self) -> dict[str, str]:
        # Neither settings nor secrets; the store's come through the pipe.
        kept = {name: os.environ[name] for name in _INHERITED if name in os.environ}
        threads = str(self._config.threads)
        # Threads that spin while they wait for each other cost ten times the time where a training has the cores.
        patience = {"OMP_NUM_THREADS": threads, "OMP_WAIT_POLICY": "PASSIVE", "GOMP_SPINCOUNT": "0"}
        return {**kept, **patience, "MALLOC_ARENA_MAX": "2", "CUDA_VISIBLE_DEVICES": ""}
