"""MATLAB 7.3 files as mat73 reads them: in a process of its own, because its licence is the GPL."""

from __future__ import annotations

import pickle
import subprocess
import sys
from pathlib import Path
from typing import Any

_PROGRAM = """
import logging, pickle, sys
import mat73
logging.disable(logging.WARNING)  # of file names that do not end in .mat
sys.stdout.buffer.write(pickle.dumps(dict(mat73.loadmat(sys.argv[1]))))
"""


def load_matlab(path: Path) -> dict[str, Any]:
    """The variables of a file by name."""
    done = subprocess.run([sys.executable, "-c", _PROGRAM, str(path)], capture_output=True, check=False)
    assert done.returncode == 0, done.stderr.decode()
    found = pickle.loads(done.stdout)
    assert isinstance(found, dict)
    return found
