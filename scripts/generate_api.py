"""Generate `src/biosegment/api` from `proto/`, into the tree or, for the freshness test, anywhere else.

usage: python scripts/generate_api.py [DESTINATION]      (default: src)
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


def generate(destination: Path) -> None:
    """Write `biosegment/api/**/*_pb2*.py[i]` below `destination`, replacing what was there."""
    package = destination / "biosegment" / "api"
    shutil.rmtree(package, ignore_errors=True)
    package.mkdir(parents=True)
    # protoc finds the mypy plugins on the path, beside this interpreter.
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])
    outputs = [f"--{kind}_out={destination}" for kind in ("python", "pyi", "grpc_python")]
    protos = [str(path.relative_to(ROOT / "proto")) for path in sorted((ROOT / "proto").rglob("*.proto"))]
    subprocess.run(
        [
            sys.executable,
            "-m",
            "grpc_tools.protoc",
            "-Iproto",
            *outputs,
            f"--mypy_grpc_out=quiet:{destination}",
            *protos,
        ],
        cwd=ROOT,
        env={**os.environ, "PATH": path},
        check=True,
    )
    # Regular packages: tools that follow imports do not look into namespace packages.
    for folder in (package, *(path for path in package.rglob("*") if path.is_dir())):
        (folder / "__init__.py").touch()


if __name__ == "__main__":
    generate(Path(sys.argv[1]) if len(sys.argv) > 1 else ROOT / "src")
