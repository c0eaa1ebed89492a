"""What this machine has, without starting anything: what a local Ray offers."""

from __future__ import annotations

import contextlib
import os
import re
from pathlib import Path
from typing import Final

from biosegment.jobs import Resources

_CGROUP_LIMITS: Final = (
    Path("/sys/fs/cgroup/memory.max"),
    Path("/sys/fs/cgroup/memory/memory.limit_in_bytes"),
)


def machine(cpus: int = 0) -> Resources:
    """CPUs (`cpus` when it is not 0), GPUs of NVIDIA that this process may use, and memory of this machine or pod."""
    return Resources(cpus or len(os.sched_getaffinity(0)), _gpus(), _memory_bytes())


def _gpus() -> int:
    present = [path for path in Path("/dev").glob("nvidia[0-9]*") if re.fullmatch(r"nvidia\d+", path.name)]
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is None:
        return len(present)
    chosen = [item for item in visible.split(",") if item.strip() not in ("", "-1", "NoDevFiles")]
    return min(len(present), len(chosen))


def _memory_bytes() -> int:
    found = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    for path in _CGROUP_LIMITS:
        with contextlib.suppress(OSError, ValueError):
            found = min(found, int(path.read_text()))
    return found
