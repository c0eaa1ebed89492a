"""The page that ships is what its sources give, byte for byte, and the sources pass their own checks."""

from __future__ import annotations

import filecmp
import os
import shutil
import subprocess
from pathlib import Path

import biosegment_gateway.http
import pytest

pytestmark = [pytest.mark.system, pytest.mark.timeout(580)]

ROOT = Path(__file__).resolve().parents[2]
PAGE = Path(biosegment_gateway.http.__file__).parent / "page"


@pytest.fixture(scope="module")
def web(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the sources with what they need, as the lock file says."""
    assert shutil.which("npm"), "npm is needed: install Node 20.19 or newer"
    folder = tmp_path_factory.mktemp("repository") / "clients" / "web"
    shutil.copytree(ROOT / "clients" / "web", folder, ignore=shutil.ignore_patterns("node_modules"))
    _npm(folder, "ci", "--no-audit", "--no-fund")
    return folder


def _npm(folder: Path, *arguments: str) -> None:
    done = subprocess.run(
        ["npm", *arguments],
        cwd=folder,
        env={**os.environ, "CI": "true", "NO_COLOR": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert done.returncode == 0, done.stdout


def test_a_build_gives_the_page_that_ships(web: Path, tmp_path: Path) -> None:
    _npm(web, "run", "build", "--", "--outDir", str(tmp_path / "page"), "--emptyOutDir")
    built = sorted(
        path.relative_to(tmp_path / "page") for path in (tmp_path / "page").rglob("*") if path.is_file()
    )
    shipped = sorted(path.relative_to(PAGE) for path in PAGE.rglob("*") if path.is_file())
    assert built == shipped
    _, different, missing = filecmp.cmpfiles(PAGE, tmp_path / "page", map(str, built), shallow=False)
    assert not different, "run `make web`, and commit what it changes"
    assert not missing


def test_types_lint_and_unit_tests_of_the_page_pass(web: Path) -> None:
    _npm(web, "run", "check")
