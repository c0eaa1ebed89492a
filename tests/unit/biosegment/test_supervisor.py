from __future__ import annotations

import importlib.util
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from biosegment.errors import FailedPrecondition
from biosegment.supervisor import Supervisor


async def test_a_port_in_use_is_one_clear_error(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(FailedPrecondition) as caught:
            await Supervisor(tmp_path, grpc_port=port, http_port=0).start()
    assert caught.value.reason == "PORT_IN_USE"
    assert str(port) in caught.value.message
    assert "--grpc-port" in caught.value.message


async def test_a_data_folder_in_use_names_the_other_process(tmp_path: Path) -> None:
    script = (
        "import fcntl, os, sys\n"
        "fd = os.open(sys.argv[1], os.O_RDWR | os.O_CREAT)\n"
        "fcntl.flock(fd, fcntl.LOCK_EX)\n"
        "os.pwrite(fd, str(os.getpid()).encode(), 0)\n"
        "print('locked', flush=True)\n"
        "sys.stdin.read()\n"
    )
    (tmp_path / "run").mkdir()
    command = [sys.executable, "-c", script, str(tmp_path / "run" / "lock")]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "locked\n"
        with pytest.raises(FailedPrecondition) as caught:
            await Supervisor(tmp_path, grpc_port=0, http_port=0).start()
        holder.communicate("")
    assert caught.value.reason == "DATA_DIR_IN_USE"
    assert str(holder.pid) in caught.value.message


async def test_a_missing_dependency_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    find_spec = importlib.util.find_spec
    monkeypatch.setattr(
        "biosegment.supervisor.importlib.util.find_spec",
        lambda name: None if name == "ray" else find_spec(name),
    )
    with pytest.raises(FailedPrecondition, match=r"not installed: ray; .*biosegment\[server\]"):
        await Supervisor(tmp_path, grpc_port=0, http_port=0).start()


async def test_a_data_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(FailedPrecondition) as caught:
        await Supervisor(tmp_path / "file" / "data", grpc_port=0, http_port=0).start()
    assert caught.value.reason == "DATA_DIR_UNUSABLE"
    assert os.fspath(tmp_path) in caught.value.message
