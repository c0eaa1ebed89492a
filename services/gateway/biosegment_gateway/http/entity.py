"""Entity tags and what is said about keeping an answer."""

from __future__ import annotations

from typing import Final

KEEP: Final = "private, max-age=31536000, immutable"
"""The address will never mean anything else."""
ASK_AGAIN: Final = "private, no-cache"
"""Every use asks again, which an entity tag makes cheap: things are deleted, members removed."""


def is_known(if_none_match: str, etag: str) -> bool:
    """Whether a client has what it asks for, by its header `If-None-Match`; weak tags match strong ones."""
    known = {tag.strip().removeprefix("W/") for tag in if_none_match.split(",")}
    return etag.removeprefix("W/") in known or "*" in known
