"""The folder of a local Ray, by which processes that outlived a killed trainer are recognised.

Ray's servers and workers die with the trainer, but two agents of each node take minutes to notice. They keep
files of this folder open, and nobody else uses it.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
import signal
import tempfile
from pathlib import Path

from biosegment.errors import FailedPrecondition


def default_folder(database_url: str) -> Path:
    """A folder that belongs to one user's trainer with one database; short, as sockets' paths must be."""
    digest = hashlib.sha256(f"{os.getuid()}:{database_url}".encode()).hexdigest()[:10]
    return Path(tempfile.gettempdir()) / f"bs-ray-{digest}"


def prepare(folder: Path) -> None:
    """Make the folder, kill what an earlier trainer left running in it, and empty it.

    Raises:
        FailedPrecondition: RAY_FOLDER_UNSAFE when somebody else owns it.
    """
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    state = folder.lstat()
    if state.st_uid != os.getuid() or folder.is_symlink():
        raise FailedPrecondition(
            "RAY_FOLDER_UNSAFE", f"{folder} belongs to somebody else; set RAY_TEMP_DIR to another folder"
        )
    for pid in _users(folder):
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.kill(pid, signal.SIGKILL)
    for entry in folder.iterdir():
        if entry.is_dir() and not entry.is_symlink():
            shutil.rmtree(entry, ignore_errors=True)
        else:
            entry.unlink(missing_ok=True)


def remove(folder: Path) -> None:
    """End what is left in the folder, and leave nothing of it."""
    prepare(folder)
    with contextlib.suppress(OSError):
        folder.rmdir()


def _users(folder: Path) -> list[int]:
    """Processes of this user, other than this one, that have a file below `folder` open."""
    prefix = f"{folder.resolve()}/"
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        if int(process.name) == os.getpid():
            continue
        with contextlib.suppress(OSError):
            for descriptor in (process / "fd").iterdir():
                if os.readlink(descriptor).startswith(prefix):
                    found.append(int(process.name))
                    break
    return found
