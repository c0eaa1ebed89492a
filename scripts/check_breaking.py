"""Fail when the contracts break clients of the last release, `v*` being the release tags.

Before the first release there is nothing to break, and this says so.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


def check(root: Path) -> int:
    """Run `buf breaking` in a checkout against its newest release tag; return buf's exit status."""
    tags = subprocess.run(
        ["git", "tag", "--list", "v*", "--sort=-version:refname"],
        cwd=root,
        capture_output=True,
        text=True,
        check=True,
    ).stdout.split()
    if not tags:
        print("no release tag yet: no contract to break")
        return 0
    buf = str(Path(sys.executable).parent / "buf")
    print(f"contracts against {tags[0]}")
    return subprocess.run([buf, "breaking", "--against", f".git#tag={tags[0]}"], cwd=root).returncode


if __name__ == "__main__":
    sys.exit(check(Path(sys.argv[1]) if len(sys.argv) > 1 else ROOT))
