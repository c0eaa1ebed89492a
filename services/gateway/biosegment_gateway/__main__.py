"""Runs the gateway: `python -m biosegment_gateway`, with settings from the environment."""

from __future__ import annotations

import asyncio
import contextlib
import resource
import sys

from biosegment.errors import BiosegmentError
from biosegment.parent import end_with_supervisor
from biosegment.rpc.server import run_until_signal
from biosegment.telemetry import configure
from biosegment_gateway.gateway import open_gateway
from biosegment_gateway.settings import GatewaySettings


async def run(settings: GatewaySettings) -> None:
    """Serve until a signal comes."""
    async with open_gateway(settings) as gateway:
        await run_until_signal(
            gateway.rpc,
            settings.shutdown_grace_s,
            gateway.http.run(),
            gateway.write_behind(),
            gateway.forget_events(),
        )


def _allow_many_connections() -> None:
    """Let the process open as many files as it may: each connection is one, and the usual 1024 are soon used up."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    with contextlib.suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


def main() -> int:
    """Run the process; errors of settings and start are one line."""
    end_with_supervisor()
    try:
        settings = GatewaySettings.load("gateway")
        configure("gateway", settings.log_level, settings.log_format)
        _allow_many_connections()
        asyncio.run(run(settings))
    except BiosegmentError as error:
        print(f"gateway: {error.message}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
