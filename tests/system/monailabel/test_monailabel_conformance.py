"""The whole conformance kit, with the real MONAI Label client, against a running platform."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.system.monailabel.lab import open_lab

pytestmark = [pytest.mark.system, pytest.mark.timeout(1800)]


@pytest.fixture(scope="module")
def kit(shared: Path) -> Path:
    found = shared / "kits" / "monailabel_conformance.py"
    if not found.is_file():
        pytest.skip("the MONAI Label conformance kit is absent")
    return found


@pytest.mark.parametrize("auth", ["off", "on"])
def test_nothing_fails_and_nothing_is_skipped(kit: Path, tmp_path: Path, auth: str) -> None:
    settings = {"MONAILABEL_AUTH": auth, "MONAILABEL_LINK_S": str(7 * 24 * 3600)}
    if auth == "off":
        settings["MONAILABEL_PROJECT"] = "em"
    report = tmp_path / "report.json"
    with open_lab(tmp_path, **settings) as lab:
        # Without signing in also at the root, as clients that know no path want it.
        url = lab.http if auth == "off" else lab.url
        command = [sys.executable, str(kit), url, "--json", str(report)]
        command += ["--timeout", "300", "--train-timeout", "900", "--stop-epochs", "5000"]
        if auth == "on":
            command += ["--user", "admin", "--password", lab.token]
        done = subprocess.run(command, capture_output=True, text=True, timeout=1500)
        assert report.exists(), done.stdout + done.stderr
        checks = json.loads(report.read_text())
        wrong = [each for each in checks if each["verdict"] in ("FAIL", "SKIP")]
        assert not wrong, done.stdout + lab.platform.log("gateway")[-4000:]
        assert sum(each["verdict"] == "PASS" for each in checks) > 50
        assert done.returncode == 0
