from __future__ import annotations

import os
import threading
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import hypothesis
import pytest

# Ray starts its nodes with a fork, in tests of clusters out of this process: what gRPC does in the child then ends it
# now and then (https://github.com/grpc/grpc/issues/43055).
os.environ.setdefault("GRPC_ENABLE_FORK_SUPPORT", "false")

# No example has a time limit of its own: machines are busy.
hypothesis.settings.register_profile("biosegment", deadline=None)
hypothesis.settings.load_profile("biosegment")

ROOT = Path(__file__).resolve().parents[1]

ALLOWED_SKIPS = (
    "needs a CUDA device",
    "needs root",
    "the folder of real data is absent",
    "no S3 endpoint is given",
    "the MONAI Label conformance kit is absent",
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


@pytest.fixture(scope="session", autouse=True)
def late_answers() -> Iterator[None]:
    """Let the thread of a SQLite connection answer a moment after the event loop of its test was closed.

    Everything else that a thread raises still fails the run.
    """
    told = threading.excepthook

    def hook(args: threading.ExceptHookArgs) -> None:
        is_connection = "_connection_worker_thread" in (args.thread.name if args.thread else "")
        if not (is_connection and str(args.exc_value) == "Event loop is closed"):
            told(args)

    threading.excepthook = hook
    yield
    threading.excepthook = told


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with the files that take longest: with `--dist loadfile` a long one that begins last keeps one worker busy.

    Tests with a time limit of their own are the long ones, as they start processes, or train. The first of a file sets
    up what the others share, or is the only one, and takes about a quarter of that limit, most others a sixtieth; tests
    without one take a third of a second.
    """
    seconds: defaultdict[Path, float] = defaultdict(float)
    for item in items:
        limit = item.get_closest_marker("timeout")
        first, other = (limit.args[0] / 4, limit.args[0] / 60) if limit else (0.3, 0.3)
        seconds[item.path] += other if item.path in seconds else first
    items.sort(key=lambda item: -seconds[item.path])
    for item in items:
        # Those of the slow suite start servers, and share the machine with others that do.
        if item.get_closest_marker("system") and not item.get_closest_marker("timeout"):
            item.add_marker(pytest.mark.timeout(300))


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
