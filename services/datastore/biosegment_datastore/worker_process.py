"""Starts the worker process for one task and follows it."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import sys
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Final

from biosegment.errors import ERRORS, BiosegmentError, DeadlineExceeded, Internal, ResourceExhausted
from biosegment.settings import ObjectStoreSettings

_BY_NAME: Final = {error.__name__: error for error in ERRORS}
_INHERITED: Final = (
    "PATH",
    "HOME",
    "LANG",
    "LC_ALL",
    "TMPDIR",
    "PYTHONPATH",
    "VIRTUAL_ENV",
    "COVERAGE_PROCESS_START",
)
_LINE_BYTES: Final = 256 << 20
_STDERR_BYTES: Final = 4000

Progress = Callable[[int, int], Awaitable[None]]
Log = Callable[[str], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class WorkerLimits:
    """What one task may use: bytes of address space and seconds."""

    memory_bytes: int
    time_s: float


def store_values(store: ObjectStoreSettings) -> dict[str, Any]:
    """The object store settings as JSON, secrets included: only for a pipe to our own worker."""
    values = {name: getattr(store, name) for name in ObjectStoreSettings.model_fields}
    values["s3_secret_access_key"] = store.s3_secret_access_key.get_secret_value()
    return values


async def run_task(
    task: dict[str, Any], limits: WorkerLimits, progress: Progress, log: Log | None = None
) -> dict[str, Any]:
    """Run a task in a process of its own and return its answer.

    Args:
        task: JSON; `kind` and what `import_task` or `export_task` want.
        limits: Of the process.
        progress: Called with done and total; what it raises ends the process.
        log: Called with lines for people.

    Raises:
        BiosegmentError: What the task raised.
        DeadlineExceeded: TOO_SLOW.
        ResourceExhausted: WORKER_KILLED, when the process was killed by a signal that lack of memory causes.
        Internal: WORKER_FAILED, when it ended without an answer.
    """
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "biosegment_datastore.worker",
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env=_environment(),
        limit=_LINE_BYTES,
    )
    assert process.stdin is not None
    assert process.stderr is not None
    errors = asyncio.create_task(_tail(process.stderr))
    try:
        async with asyncio.timeout(limits.time_s):
            # Standard input stays open: its end tells the worker that we are gone.
            process.stdin.write(json.dumps({**task, "memory_bytes": limits.memory_bytes}).encode() + b"\n")
            with contextlib.suppress(ConnectionError):
                await process.stdin.drain()
            return await _follow(process, errors, progress, log, limits)
    except TimeoutError as error:
        raise DeadlineExceeded("TOO_SLOW", f"the file took longer than {limits.time_s:g} s") from error
    finally:
        process.stdin.close()
        await _end(process)
        errors.cancel()
        await asyncio.gather(errors, return_exceptions=True)


async def _end(process: asyncio.subprocess.Process) -> None:
    # Not `process.kill()`: it polls, and so may take the exit status away from the event loop's watcher.
    if process.returncode is None:
        with contextlib.suppress(ProcessLookupError):
            os.kill(process.pid, signal.SIGKILL)
    await process.wait()


async def _follow(
    process: asyncio.subprocess.Process,
    errors: asyncio.Task[str],
    progress: Progress,
    log: Log | None,
    limits: WorkerLimits,
) -> dict[str, Any]:
    assert process.stdout is not None
    while line := await process.stdout.readline():
        answer = json.loads(line)
        if "progress" in answer:
            await progress(*answer["progress"])
        elif "log" in answer:
            if log is not None:
                await log(answer["log"])
        elif "error" in answer:
            raise _rebuilt(*answer["error"])
        else:
            return dict(answer["done"])
    code = await process.wait()
    said = await errors
    if code in (-signal.SIGKILL, -signal.SIGABRT, -signal.SIGSEGV, -signal.SIGBUS) or "MemoryError" in said:
        raise ResourceExhausted(
            "WORKER_KILLED",
            f"the process that read or wrote the file died (status {code}); the file may be damaged, or need more than "
            f"the {limits.memory_bytes >> 20} MiB that one may use",
        )
    raise Internal(
        "WORKER_FAILED", f"the process that read or wrote the file failed (status {code}): {said[-500:]}"
    )


def _rebuilt(kind: str, reason: str, message: str) -> BiosegmentError:
    return _BY_NAME.get(kind, Internal)(reason, message)


def _environment() -> dict[str, str]:
    # Not the settings: who parses foreign files knows neither the database nor the signing key. Nor the allocator's
    # tuning of the services, which reserves address space that counts against the limit.
    environment = {name: os.environ[name] for name in _INHERITED if name in os.environ}
    return {**environment, "MALLOC_ARENA_MAX": "2", "PYTHONUNBUFFERED": "1", "OMP_NUM_THREADS": "1"}


async def _tail(stream: asyncio.StreamReader) -> str:
    kept = b""
    while data := await stream.read(65536):
        kept = (kept + data)[-_STDERR_BYTES:]
    return kept.decode(errors="replace")
