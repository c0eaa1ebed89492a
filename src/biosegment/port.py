"""Ports for servers whose address must be known before they listen."""

from __future__ import annotations

import errno
import random
import socket
from typing import Final

_BELOW_THOSE_OF_CONNECTIONS: Final = range(20_000, 32_000)
_TRIES: Final = 100


def listen_anywhere() -> socket.socket:
    """A listening socket on a free port of 127.0.0.1, for its port to be used once it is closed.

    A port that the system chooses may be given to a connection or to another server as soon as it is free, also while
    the server that it was meant for starts anew. This one is below those.

    Raises:
        OSError: No free port was found.
    """
    for port in random.sample(_BELOW_THOSE_OF_CONNECTIONS, _TRIES):
        found = socket.socket()
        found.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            found.bind(("127.0.0.1", port))
            found.listen()
        except OSError:
            found.close()
        else:
            return found
    raise OSError(errno.EADDRINUSE, f"none of {_TRIES} ports of 127.0.0.1 that were tried is free")
