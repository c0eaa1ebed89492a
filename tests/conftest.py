from __future__ import annotations

import os
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]

ALLOWED_SKIPS = (
    "needs a CUDA device",
    "needs root",
    "the folder of real data is absent",
    "no S3 endpoint is given",
)
"""Beginnings of the reasons that may skip a test in CI; any other skip fails the run there."""

_skipped: list[tuple[str, str]] = []


@pytest.fixture(scope="session")
def shared() -> Path:
    """Folder with real volumes and conformance kits, beside the checkout or at BIOSEGMENT_SHARED."""
    folder = Path(os.environ.get("BIOSEGMENT_SHARED", ROOT.parent / "shared"))
    if not (folder / "data").is_dir():
        pytest.skip("the folder of real data is absent")
    return folder


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    if report.skipped and isinstance(report.longrepr, tuple):
        _skipped.append((report.nodeid, report.longrepr[2].removeprefix("Skipped: ")))


def pytest_sessionfinish(session: pytest.Session, exitstatus: int) -> None:
    if os.environ.get("CI") != "true" or hasattr(session.config, "workerinput"):
        return
    wrong = [(test, reason) for test, reason in _skipped if not reason.startswith(ALLOWED_SKIPS)]
    if wrong and exitstatus == pytest.ExitCode.OK:
        print("\nskipped for reasons that CI does not accept:")
        for test, reason in wrong:
            print(f"  {test}: {reason}")
        session.exitstatus = pytest.ExitCode.TESTS_FAILED
