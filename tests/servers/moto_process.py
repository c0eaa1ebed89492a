"""The emulator of S3, with writes one at a time.

A write that must not find an object looks for it and then makes it, and between the two moto lets another one in. S3
does both at once.
"""

from __future__ import annotations

import threading
from typing import Any
from unittest.mock import patch

from moto.s3.responses import S3Response
from moto.server import main

_ONE_AT_A_TIME = threading.Lock()
_put_object = S3Response.put_object


def _alone(self: S3Response) -> Any:
    with _ONE_AT_A_TIME:
        return _put_object(self)


if __name__ == "__main__":
    with patch.object(S3Response, "put_object", _alone):
        main()
