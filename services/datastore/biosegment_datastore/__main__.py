"""`python -m biosegment_datastore`: the datastore as a process."""

from __future__ import annotations

import asyncio
import sys

import structlog

from biosegment import telemetry
from biosegment.errors import BiosegmentError
from biosegment.parent import end_with_supervisor
from biosegment.rpc.server import run_until_signal
from biosegment_datastore.composition import build
from biosegment_datastore.settings import SERVICE, DatastoreSettings


async def serve(settings: DatastoreSettings) -> None:
    """Run until a signal comes."""
    datastore = await build(settings)
    try:
        address = await datastore.server.start()
        structlog.get_logger("biosegment_datastore").info("serving", address=address)
        await run_until_signal(datastore.server, settings.shutdown_grace_s, *datastore.background())
    finally:
        await datastore.close()


def main() -> int:
    """Start; wrong settings and the like are one line on standard error."""
    end_with_supervisor()
    try:
        settings = DatastoreSettings.load(SERVICE)
        telemetry.configure(SERVICE, settings.log_level, settings.log_format)
        asyncio.run(serve(settings))
    except BiosegmentError as error:
        print(f"biosegment-{SERVICE}: {error.reason}: {error.message}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
