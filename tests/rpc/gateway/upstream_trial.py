"""The trial service behind the gateway: it also counts what it sent, and calls that were ended from outside."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from types import SimpleNamespace
from typing import Any

from tests.rpc.trial_service import TrialService

# Methods of the contract, whose shape the gateway knows, next to those of the trial service, which it does not.
_KNOWN = {"GetPool": "GetOne", "UpdatePool": "ChangeOne"}


class UpstreamTrial(TrialService):
    def service(self, handler_call_details: Any) -> Any:
        prefix, _, name = handler_call_details.method.rpartition("/")
        return super().service(SimpleNamespace(method=f"{prefix}/{_KNOWN.get(name, name)}"))

    async def _watch_many(self, body: bytes, context: Any) -> AsyncIterator[bytes]:
        what = json.loads(body)
        for _ in range(what.get("before", 0)):
            yield self._answer() + b" " * what.get("padding_bytes", 0)
            self.calls["sent"] += 1
        await self._obey(body, 1)
        yield self._answer()

    async def _obey(self, body: bytes, call: int) -> None:
        try:
            await super()._obey(body, call)
        except asyncio.CancelledError:
            self.calls["ended"] += 1
            raise
