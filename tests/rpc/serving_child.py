"""A process of one server, as a service's own: `python -m tests.rpc.serving_child <folder of public keys>`.

Prints its address once it serves and would end in order on a signal, and 'cancelled' when its background work ends.
"""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

from biosegment import telemetry
from biosegment.auth import PrincipalVerifier
from biosegment.rpc.server import RpcServer, run_until_signal


async def _serve(keys: Path) -> None:
    server = RpcServer("127.0.0.1:0", PrincipalVerifier.from_folder("datastore", keys))
    address = await server.start()

    async def endless() -> None:
        # Background work starts after the handlers are set.
        print(address, flush=True)
        try:
            await asyncio.Event().wait()
        finally:
            print("cancelled", flush=True)

    await run_until_signal(server, 1.0, endless())


if __name__ == "__main__":
    telemetry.configure("datastore")
    asyncio.run(_serve(Path(sys.argv[1])))
