"""Fail when committed generated code is not what its source gives now."""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

from generate_api import ROOT
from generate_api import generate as generate_api
from generate_api_text import TEXT
from generate_api_text import generate as generate_api_text
from generate_sync_client import CLIENT
from generate_sync_client import generate as generate_sync_client
from generate_web_types import TYPES
from generate_web_types import generate as generate_web_types


def _stale() -> list[str]:
    committed = ROOT / "src" / "biosegment" / "api"
    with tempfile.TemporaryDirectory() as folder:
        generate_api(Path(folder))
        fresh = Path(folder) / "biosegment" / "api"
        names = {
            str(path.relative_to(root))
            for root in (committed, fresh)
            for path in root.rglob("*.py*")
            if "__pycache__" not in path.parts
        }
        stale = [
            f"src/biosegment/api/{name}"
            for name in sorted(names)
            if not (committed / name).exists()
            or not (fresh / name).exists()
            or (committed / name).read_bytes() != (fresh / name).read_bytes()
        ]
    synchronous = CLIENT / "synchronous.py"
    if synchronous.read_text() != generate_sync_client():
        stale.append(str(synchronous.relative_to(ROOT)))
    if TYPES.read_text() != generate_web_types():
        stale.append(str(TYPES.relative_to(ROOT)))
    if TEXT.read_text() != generate_api_text():
        stale.append(str(TEXT.relative_to(ROOT)))
    return stale


if __name__ == "__main__":
    if stale := _stale():
        sys.exit("generated code is stale, run `make generate`:\n  " + "\n  ".join(stale))
    print("generated code is fresh")
