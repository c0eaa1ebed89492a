"""gRPC's asyncio machinery in this process."""

from __future__ import annotations

from functools import cache
from typing import Any

import grpc.aio


@cache
def keep_grpc() -> None:
    """Keep gRPC's polling thread for as long as the process lives; call before a server or channel is made.

    gRPC ends the thread with the last server, channel or call that is freed, and waits for it without a limit. When
    the garbage collector frees that last one while an operation of it is pending, the wait never ends
    (https://github.com/grpc/grpc/issues/22365), in the middle of whatever ran just then.
    """
    grpc.aio.init_grpc_aio()


def keep_status(call: Any) -> Any:
    """Have a call with streamed requests end as the server ended it; returns the call.

    A server may answer before it has read everything. A message that its answer overtakes cannot be sent, which gRPC
    takes for an error of its own ("Internal error from Core") and puts in the place of what the server said.

    Args:
        call: Just made.
    """
    call._cython_call = _Core(call._cython_call)
    return call


class _Core:
    """gRPC's own part of a call, deaf to what only follows from its end."""

    def __init__(self, core: Any) -> None:
        self._core = core

    def __getattr__(self, name: str) -> Any:
        return getattr(self._core, name)

    def set_internal_error(self, text: str) -> None:
        """Wait for the status instead, as whoever calls this does next."""
