"""Whom the processor is for: services come before the trainings beside them."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

import pytest

from biosegment.auth import SERVICES
from tests.system.platform import running

pytestmark = [pytest.mark.system, pytest.mark.timeout(300)]


def test_services_share_a_session_so_that_priorities_count_among_them_and_their_workers(
    tmp_path: Path,
) -> None:
    with running(tmp_path, import_root=tmp_path) as platform:
        up, *below = platform.processes()
        services = [platform.process(service) for service in SERVICES]
        # Ctrl-C in a terminal reaches `up` alone, which stops the services in order.
        assert {os.getpgid(each.pid) for each in services} == {each.pid for each in services}
        # Linux shares the processor evenly among sessions, whatever the priorities within each.
        sessions = set()
        for each in below:
            with contextlib.suppress(ProcessLookupError):  # one that has ended meanwhile
                sessions.add(os.getsid(each.pid))
        assert sessions == {os.getsid(up.pid)}
        group = Path(f"/proc/{up.pid}/autogroup")
        if group.exists():
            assert {Path(f"/proc/{each.pid}/autogroup").read_text() for each in services} == {
                group.read_text()
            }
