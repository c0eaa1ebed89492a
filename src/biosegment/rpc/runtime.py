"""gRPC's asyncio machinery in this process."""

from __future__ import annotations

from functools import cache

import grpc.aio


@cache
def keep_grpc() -> None:
    """Keep gRPC's polling thread for as long as the process lives; call before a server or channel is made.

    gRPC ends the thread with the last server, channel or call that is freed, and waits for it without a limit. When
    the garbage collector frees that last one while an operation of it is pending, the wait never ends
    (https://github.com/grpc/grpc/issues/22365), in the middle of whatever ran just then.
    """
    grpc.aio.init_grpc_aio()
