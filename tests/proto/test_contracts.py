from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


def _git(folder: Path, *arguments: str) -> None:
    identity = ["-c", "user.name=test", "-c", "user.email=test@localhost"]
    subprocess.run(["git", *identity, *arguments], cwd=folder, check=True, capture_output=True)


@pytest.fixture
def released(tmp_path: Path) -> Path:
    """A checkout of the contracts whose present state is release v0.0.1."""
    shutil.copytree(ROOT / "proto", tmp_path / "proto")
    shutil.copy(ROOT / "buf.yaml", tmp_path)
    _git(tmp_path, "init", "-q")
    _git(tmp_path, "add", ".")
    _git(tmp_path, "commit", "-qm", "release")
    _git(tmp_path, "tag", "v0.0.1")
    return tmp_path


def _check(folder: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(ROOT / "scripts" / "check_breaking.py"), str(folder)]
    return subprocess.run(command, capture_output=True, text=True)


def test_a_new_field_breaks_nobody(released: Path) -> None:
    path = released / "proto/biosegment/api/volume/v1alpha1/geometry.proto"
    path.write_text(path.read_text().replace("int64 x = 3;", "int64 x = 3;\n  // More.\n  int64 w = 4;"))
    result = _check(released)
    assert result.returncode == 0, result.stdout + result.stderr


def test_another_number_for_a_field_is_found(released: Path) -> None:
    path = released / "proto/biosegment/api/volume/v1alpha1/geometry.proto"
    path.write_text(path.read_text().replace("int64 x = 3;", "int64 x = 4;"))
    result = _check(released)
    assert result.returncode != 0
    assert "geometry.proto" in result.stdout + result.stderr


def test_without_a_release_there_is_nothing_to_break(released: Path) -> None:
    _git(released, "tag", "-d", "v0.0.1")
    result = _check(released)
    assert result.returncode == 0
    assert "no release tag yet" in result.stdout


def test_every_rpc_has_a_request_and_a_response_of_its_own() -> None:
    result = subprocess.run(
        [str(Path(sys.executable).parent / "buf"), "lint"], cwd=ROOT, capture_output=True, text=True
    )
    assert result.returncode == 0, result.stdout
