"""Reads a foreign bundle in a process of its own, with limits: `python -m biosegment_trainer.registry.bundle_check
DIR`.

Prints one JSON object: what the bundle is, or the error. The service runs it through `check_bundle`, which
loads
neither torch nor MONAI.
"""

from __future__ import annotations

import asyncio
import json
import resource
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from biosegment.errors import BY_GRPC_CODE, BiosegmentError, InvalidArgument

_MEMORY_BYTES: Final = 8 << 30
_CPU_S: Final = 120
_TIMEOUT_S: Final = 180.0


@dataclass(frozen=True, slots=True)
class CheckedBundle:
    """What a bundle says of itself, checked: its network can be built and its weights fit."""

    name: str
    classes: tuple[tuple[int, str], ...]
    working_resolution_nm: float


async def check_bundle(folder: Path) -> CheckedBundle:
    """Check the bundle in `folder`; its errors are those of `learning.bundle.read_bundle`, or BAD_BUNDLE."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "biosegment_trainer.registry.bundle_check",
        str(folder),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,
    )
    try:
        async with asyncio.timeout(_TIMEOUT_S):
            output, _ = await process.communicate()
        answer = json.loads(output)
    except (TimeoutError, ValueError) as error:
        raise InvalidArgument(
            "BAD_BUNDLE", "the bundle cannot be read within the limits of time and memory"
        ) from error
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    if "reason" in answer:
        kind = BY_GRPC_CODE[answer["code"]]
        raise kind(answer["reason"], answer["message"])
    classes = tuple((int(value), str(name)) for value, name in answer["classes"])
    return CheckedBundle(answer["name"], classes, answer["working_resolution_nm"])


def _limit() -> None:
    resource.setrlimit(resource.RLIMIT_AS, (_MEMORY_BYTES, _MEMORY_BYTES))
    resource.setrlimit(resource.RLIMIT_CPU, (_CPU_S, _CPU_S))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def _main(folder: Path) -> None:
    _limit()
    from biosegment_trainer.learning.bundle import read_bundle

    answer: dict[str, Any]
    try:
        bundle = read_bundle(folder)
        answer = {
            "name": bundle.name,
            "classes": [[item.value, item.name] for item in bundle.model.classes],
            "working_resolution_nm": bundle.working_resolution_nm,
        }
    except BiosegmentError as error:
        message = error.message.replace(f"{folder}/", "")
        answer = {"code": error.grpc_code, "reason": error.reason, "message": message}
    print(json.dumps(answer))


if __name__ == "__main__":
    _main(Path(sys.argv[1]))
