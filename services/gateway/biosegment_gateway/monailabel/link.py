"""Names of images that carry a permission to fetch them: 3D Slicer's plugin fetches images without saying who asks.

`{image}~{user}~{end}~{signature}`: until `end` the image, and nothing else, is sent to whoever knows this name, as the
user may see it. Whoever sends a token need not send the rest: for them the name is that of the image.
"""

from __future__ import annotations

import base64
import hmac
import re
import time
from pathlib import Path
from typing import Final

from biosegment.errors import Unauthenticated
from biosegment_gateway.signature import derived_key, signature

_LINK: Final = re.compile(r"(.+)~([a-z0-9-]{1,63})~([0-9a-f]{8})~([a-z2-7]{26})")


class ImageLinks:
    """Makes and checks such names.

    Args:
        key: Of the signatures; secret.
        lifetime_s: Of a name, at most; at least half of it. 0: names carry nothing.
    """

    def __init__(self, key: bytes, lifetime_s: float) -> None:
        self._key = key
        self._step_s = int(lifetime_s) // 2

    @classmethod
    def with_key_of(cls, signing_key_file: Path, lifetime_s: float) -> ImageLinks:
        """With a key that follows from the gateway's own, so that every replica makes the same names."""
        return cls(derived_key(signing_key_file, "monailabel image link"), lifetime_s)

    def name(self, project_id: str, image_id: str, user_id: str) -> str:
        """The name under which somebody is told of an image; the same for some hours."""
        if not self._step_s:
            return image_id
        end = (int(time.time()) // self._step_s + 2) * self._step_s
        return f"{image_id}~{user_id}~{end:08x}~{self._signature(project_id, image_id, user_id, end)}"

    def user(self, project_id: str, name: str) -> str:
        """Who was told this name.

        Raises:
            Unauthenticated: NO_TOKEN when it carries nothing, BAD_LINK, LINK_EXPIRED.
        """
        found = _LINK.fullmatch(name)
        if found is None:
            raise Unauthenticated(
                "NO_TOKEN",
                "the request carries no token; sign in, or use the name that a next sample came with",
            )
        image_id, user_id, end, signed = found[1], found[2], int(found[3], 16), found[4]
        if not hmac.compare_digest(signed, self._signature(project_id, image_id, user_id, end)):
            raise Unauthenticated(
                "BAD_LINK", "the signature in the image's name is not of this project and image"
            )
        if end < time.time():
            raise Unauthenticated(
                "LINK_EXPIRED", "the image's name is not valid any more; ask for the sample again"
            )
        return user_id

    def _signature(self, project_id: str, image_id: str, user_id: str, end: int) -> str:
        digest = signature(self._key, project_id, image_id, user_id, str(end))
        return base64.b32encode(digest).decode().rstrip("=").lower()


def plain_name(name: str) -> str:
    """The name of the image itself."""
    found = _LINK.fullmatch(name)
    return found[1] if found is not None else name
