"""Reads files as a worker process does, many of them one after the other: `python -m tests.system.reader_child`.

Gets lines of JSON on standard input (`path`, `scratch_dir`, `labels`: whether it is read as labels), answers each with
a line: what came of it, the peak of resident memory in bytes, and how many file descriptors are open. Address space is
limited to what is in use before the first file, and so much more.
"""

from __future__ import annotations

import gc
import json
import os
import resource
import signal
import sys
import traceback
from importlib import import_module
from pathlib import Path

import imagecodecs
import numpy as np
import tensorstore
from biosegment_datastore.formats.detection import READERS, open_source
from biosegment_datastore.formats.source import ACCEPTED, ACCEPTED_LABELS, SourceOptions

from biosegment.errors import BiosegmentError
from biosegment.parent import end_with_parent

MEMORY_BYTES = 2 << 30
_LIBRARIES = (imagecodecs, tensorstore)
# What a damaged header calls a volume may be sparse and endless, and is then as good as sound.
_READ_BYTES = 256 << 20


def main() -> None:
    end_with_parent(signal.SIGKILL)
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)
    for reader in READERS:
        import_module(f"biosegment_datastore.formats.{reader}")
    for library in ("nrrd", "nibabel", "mrcfile", "PIL.Image", "h5py"):
        import_module(library)
    in_use = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (in_use + MEMORY_BYTES, in_use + MEMORY_BYTES))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    answers.write("ready\n")
    for line in sys.stdin:
        Path("/proc/self/clear_refs").write_text("5")
        task = json.loads(line)
        outcome = _read(Path(task["path"]), Path(task["scratch_dir"]), task["labels"])
        gc.collect()
        answer = {"outcome": outcome, "peak_bytes": _peak_bytes(), "files": len(os.listdir("/proc/self/fd"))}
        answers.write(json.dumps(answer) + "\n")


def _read(path: Path, scratch_dir: Path, labels: bool) -> str:
    """'read', 'refused: REASON', or 'failed: ...' for what no reader should do."""
    options = SourceOptions(accepted=ACCEPTED_LABELS if labels else ACCEPTED, scratch_dir=scratch_dir)
    try:
        with open_source(path, options) as source:
            depth, step = source.shape.z, source.slab_planes
            budget = _READ_BYTES // (step * source.shape.y * source.shape.x * source.dtype.itemsize)
            starts = range(0, depth, step)
            for start in [*starts[: max(1, budget)], starts[-1]]:
                stop = min(start + step, depth)
                slab = source.read_slab(start, stop)
                wanted = (stop - start, source.shape.y, source.shape.x)
                if slab.shape != wanted or slab.dtype != source.dtype or not isinstance(slab, np.ndarray):
                    return f"failed: a slab of {slab.shape} {slab.dtype} instead of {wanted} {source.dtype}"
    except BiosegmentError as error:
        internal = error.http_status == 500 or path.name not in error.message
        return f"{'failed: unclear' if internal else 'refused'}: {error.reason} {error.message}"
    except BaseException:
        return f"failed: {traceback.format_exc()}"
    return "read"


def _peak_bytes() -> int:
    status = Path("/proc/self/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0]) << 10


if __name__ == "__main__":
    main()
