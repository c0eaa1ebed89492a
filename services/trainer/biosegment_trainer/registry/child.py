"""What needs torch, or touches what strangers made, runs in a process of its own with limits: it cannot take
the service down, and the service need not load torch.
"""

from __future__ import annotations

import asyncio
import json
import re
import resource
import sys
from collections.abc import Callable, Mapping
from typing import Any, Final

from biosegment.errors import BY_GRPC_CODE, BiosegmentError, InvalidArgument

_MEMORY_BYTES: Final = 8 << 30
_CPU_S: Final = 240
_TIMEOUT_S: Final = 300.0
_MAX_ANSWER: Final = 1 << 20
_MAX_MESSAGE: Final = 4000
_MAX_TEXT: Final = 300
_TERMINAL: Final = re.compile(r"\x1b\[[0-9;]*m")


async def run_child(module: str, task: Mapping[str, Any]) -> dict[str, Any]:
    """Run `module`, whose main calls `answer`, and return what it answers.

    Raises:
        InvalidArgument: BAD_BUNDLE when it ends without an answer.
        BiosegmentError: The child's own.
    """
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        module,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,
    )
    try:
        async with asyncio.timeout(_TIMEOUT_S):
            output, _ = await process.communicate(json.dumps(task).encode())
        # Libraries may have printed before.
        found: dict[str, Any] = json.loads(output[-_MAX_ANSWER:].splitlines()[-1])
    except (TimeoutError, ValueError, IndexError) as error:
        raise InvalidArgument(
            "BAD_BUNDLE", "the bundle cannot be read within the limits of time and memory"
        ) from error
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    if "reason" in found:
        kind = BY_GRPC_CODE[found["code"]]
        raise kind(found["reason"], found["message"])
    return found


def answer(work: Callable[[dict[str, Any]], dict[str, Any]]) -> None:
    """Main of a child: limit it, read its task, print what `work` returns, or its error, as one line."""
    resource.setrlimit(resource.RLIMIT_AS, (_MEMORY_BYTES, _MEMORY_BYTES))
    resource.setrlimit(resource.RLIMIT_CPU, (_CPU_S, _CPU_S))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    task = json.load(sys.stdin)
    found: dict[str, Any]
    try:
        found = work(task)
    except BiosegmentError as error:
        found = _refusal(task, error.grpc_code, error.reason, error.message)
    # Whatever a stranger's file leads to, its owner should learn of it.
    except Exception as error:
        code, text = InvalidArgument.grpc_code, str(error)
        # Torch's own says so in words.
        if isinstance(error, MemoryError) or "can't allocate memory" in text:
            found = _refusal(task, code, "BAD_BUNDLE", "the bundle needs more memory than is allowed")
        else:
            message = f"the bundle cannot be read: {type(error).__name__}: {text[:_MAX_TEXT]}"
            found = _refusal(task, code, "BAD_BUNDLE", message)
    print("\n" + json.dumps(found), flush=True)


def _refusal(task: Mapping[str, Any], code: str, reason: str, message: str) -> dict[str, Any]:
    """An error as `run_child` reads it: of one line, without our places, in characters that can be shown."""
    for place in task.values():
        if isinstance(place, str) and place.startswith("/"):
            message = message.replace(f"{place}/", "")
    shown = "".join(c if c.isprintable() else " " for c in _TERMINAL.sub("", message[:_MAX_MESSAGE]))
    return {"code": code, "reason": reason, "message": " ".join(shown.split())}
