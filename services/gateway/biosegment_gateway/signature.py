"""Signatures in addresses: short, without state, and the same from every replica of the gateway."""

from __future__ import annotations

import hashlib
import hmac
from pathlib import Path
from typing import Final

_BYTES: Final = 16


def derived_key(signing_key_file: Path, purpose: str) -> bytes:
    """A secret that follows from the gateway's own key, another one for each purpose."""
    return hmac.digest(signing_key_file.read_bytes(), f"biosegment {purpose}".encode(), "sha256")


def signature(key: bytes, *parts: str) -> bytes:
    """16 bytes that only who has the key can make; no part may contain a line break."""
    return hmac.digest(key, "\n".join(parts).encode(), hashlib.sha256)[:_BYTES]
