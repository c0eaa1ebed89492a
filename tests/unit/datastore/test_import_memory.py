"""What the process that imports needs for forty gigabytes: the first slabs are imported, in the real worker."""

from __future__ import annotations

import asyncio
import contextlib
from pathlib import Path

import numpy as np
import psutil
import pytest
import tifffile
from biosegment_datastore.formats.source import SourceOptions
from biosegment_datastore.worker_process import WorkerLimits, run_task, store_values

pytestmark = [pytest.mark.system, pytest.mark.timeout(400)]

LIMIT = 1_500_000_000


class Enough(Exception):
    """Raised when the first slabs are done."""


def sparse_stack(path, shape, dtype, noisy_rows, noisy_planes):
    """A file that claims its whole size; only some rows of the first planes take room on the disk."""
    tifffile.imwrite(path, shape=shape, dtype=dtype, photometric="minisblack", bigtiff=True)
    with tifffile.TiffFile(path) as file:
        offset = file.series[0].dataoffset
    plane = shape[1] * shape[2] * np.dtype(dtype).itemsize
    noise = np.random.default_rng(0).integers(0, 256, plane // shape[1] * noisy_rows, np.uint8)
    with path.open("r+b") as data:
        for z in range(noisy_planes):
            data.seek(offset + z * plane)
            data.write(noise.tobytes())
    assert path.stat().st_size > 40e9 > path.stat().st_blocks * 512 * 10
    return path


def children():
    return {each.pid for each in psutil.Process().children()}


async def peak_of(path, store_settings, tmp_path, calls):
    """Most resident bytes of the worker, from its start until it has told its progress so often."""
    before, told, peaks = children(), [], {}

    async def progress(done, total):
        for pid in children() - before:
            with contextlib.suppress(OSError):
                lines = Path(f"/proc/{pid}/status").read_text().splitlines()
                (line,) = [line for line in lines if line.startswith("VmHWM")]
                peaks[pid] = int(line.split()[1]) * 1024
        told.append(done)
        if len(told) >= calls:
            raise Enough

    task = {
        "kind": "import",
        "store": store_values(store_settings),
        "path": str(path),
        "prefix": "volumes/v.ome.zarr",
        "name": "v",
        "voxel_size_nm": [5, 5, 5],
        "options": SourceOptions(scratch_dir=tmp_path).written(),
        "reference": False,
        "upload": "",
    }
    with contextlib.suppress(Enough):
        await run_task(task, WorkerLimits(4 << 30, 500), progress)
    assert peaks
    return max(peaks.values())


@pytest.mark.parametrize(
    ("shape", "dtype", "noisy_rows", "noisy_planes", "calls"),
    [
        ((2600, 4000, 4000), "uint8", 4000, 72, 24),
        ((2150, 3100, 3100), "uint16", 3100, 60, 24),
        ((48, 30000, 30000), "uint8", 4000, 16, 24),
    ],
    ids=["planes of 16 MB", "planes of 19 MB", "planes of 900 MB"],
)
async def test_forty_gigabytes_need_less_than_one_and_a_half(
    tmp_path, store_settings, shape, dtype, noisy_rows, noisy_planes, calls
):
    path = await asyncio.to_thread(sparse_stack, tmp_path / "big.tif", shape, dtype, noisy_rows, noisy_planes)
    peak = await peak_of(path, store_settings, tmp_path, calls)
    print(f"peak {peak / 1e6:.0f} MB")
    assert peak < LIMIT
