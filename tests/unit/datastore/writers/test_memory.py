"""Peak memory of a writer, whatever the size: planes of a gigabyte, in a process of its own."""

from __future__ import annotations

import subprocess
import sys

import pytest
from biosegment_datastore.formats.writers.catalogue import FORMATS

_PROGRAM = """
import resource, sys
from pathlib import Path
import numpy as np
from biosegment.volume import Index, Region, VoxelSize
from biosegment_datastore.formats.writers.catalogue import BY_KEY
from biosegment_datastore.formats.writers.target import ExportFrame

class Constant:
    dtype = np.dtype("uint16")

    def read(self, region):
        return np.full(region.shape, 7, self.dtype)

region = Region.of_shape(Index(2, 22000, 24000))
frame = ExportFrame(region, VoxelSize(30.0, 4.0, 4.0), (0.0, 0.0, 0.0), "wide", "", is_labels=True)
write = BY_KEY[sys.argv[1]].writer()
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
write(Path(sys.argv[2]), Constant(), frame, lambda done, total: None)
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""

LIMIT_KIB = 500 << 10


@pytest.mark.system
@pytest.mark.timeout(300)
@pytest.mark.parametrize("key", [each.key for each in FORMATS])
def test_a_plane_of_a_gigabyte_needs_less_than_half_of_it(tmp_path, key):
    path = tmp_path / "wide"
    done = subprocess.run(
        [sys.executable, "-c", _PROGRAM, key, str(path)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    path.unlink()
    assert int(done.stdout) < LIMIT_KIB
