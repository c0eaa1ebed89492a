"""Runs the trainer: `python -m biosegment_trainer`, with settings from the environment."""

from __future__ import annotations

import asyncio
import sys

from biosegment.errors import BiosegmentError
from biosegment.parent import end_with_supervisor
from biosegment.rpc.server import run_until_signal
from biosegment.telemetry import configure
from biosegment_trainer.settings import TrainerSettings
from biosegment_trainer.trainer import open_trainer


async def run(settings: TrainerSettings) -> None:
    """Serve until a signal comes."""
    async with open_trainer(settings) as trainer:
        await run_until_signal(trainer.server, settings.shutdown_grace_s, trainer.work())


def main() -> int:
    """Run the process; errors of settings and start are one line."""
    end_with_supervisor()
    try:
        settings = TrainerSettings.load("trainer")
        configure("trainer", settings.log_level, settings.log_format)
        asyncio.run(run(settings))
    except BiosegmentError as error:
        print(f"trainer: {error.message}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
