"""The command line in the hands of a person who signs in with a browser."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

from tests.servers.oidc import Person


class Program:
    """The command line of somebody, with a folder of their own for what it keeps."""

    def __init__(self, http_url: str, person: Person, folder: Path) -> None:
        self._http_url = http_url
        self.person = person
        self.config = folder / person.name
        hidden = ("BIOSEGMENT_ADDRESS", "BIOSEGMENT_TOKEN", "BIOSEGMENT_HTTP_URL", "BIOSEGMENT_DATA")
        self.environment = {key: value for key, value in os.environ.items() if key not in hidden}
        self.environment |= {"BIOSEGMENT_CONFIG": str(self.config), "HOME": str(folder / "nobody")}

    def run(self, *arguments: str, expect: int = 0, typed: str = "") -> subprocess.CompletedProcess[str]:
        done = subprocess.run(
            [sys.executable, "-m", "biosegment.cli", *arguments],
            env=self.environment,
            input=typed,
            capture_output=True,
            text=True,
            timeout=120,
        )
        assert done.returncode == expect, done.stderr
        return done

    def log_in(self) -> dict[str, str]:
        """`biosegment login`, and what it asks for done in a browser."""
        process = subprocess.Popen(
            [sys.executable, "-m", "biosegment.cli", "login", "--json", "--address", self._http_url],
            env=self.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        with process:
            assert process.stderr is not None
            assert process.stdout is not None
            line = process.stderr.readline()
            address = re.search(r"http://\S+user_code=\S+", line)
            assert address is not None, line
            self.person.open(address[0])
            said = process.stdout.read()
            assert process.wait(60) == 0, process.stderr.read()
        return dict(json.loads(said))

    @property
    def file(self) -> Path:
        return self.config / "sign-in.json"

    @property
    def kept(self) -> dict[str, Any]:
        content = json.loads(self.file.read_text())
        return dict(content["sign_ins"][content["current"]])
