"""A gateway in front of a real datastore, as the administrator sees both; no sampler and no trainer are there."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import grpc
import httpx
from biosegment_gateway.gateway import Gateway, open_gateway

from biosegment.rpc.channel import CallPolicy, connect
from tests.rpc.datastore_server import Caller, RunningDatastore, running_datastore
from tests.rpc.gateway.conftest import MakeSettings

NOWHERE = "127.0.0.1:1"


@dataclass(frozen=True, slots=True)
class Pair:
    """Both servers, and the administrator's ways to the gateway.

    Attributes:
        datastore: Behind the gateway.
        gateway: The gateway.
        token: API token of the administrator.
        channel: gRPC; tries nothing twice.
        admin: Stubs over the channel.
        web: HTTP.
    """

    datastore: RunningDatastore
    gateway: Gateway
    token: str
    channel: grpc.aio.Channel
    admin: Caller
    web: httpx.AsyncClient


@asynccontextmanager
async def open_pair(folder: Path, keys: Path, make_settings: MakeSettings) -> AsyncIterator[Pair]:
    """Start both, with all that they keep in `folder`, which is that of the settings."""
    async with running_datastore(folder, keys) as datastore:
        addresses = {"datastore": datastore.address, "sampler": NOWHERE, "trainer": NOWHERE}
        settings = make_settings(addresses).model_copy(
            update={"object_store_url": datastore.settings.object_store_url}
        )
        async with open_gateway(settings) as gateway:
            token = (folder / "admin-token").read_text().strip()
            channel = connect(gateway.grpc_address, credentials=lambda: token, policy=CallPolicy(attempts=1))
            headers = {"authorization": f"Bearer {token}"}
            web = httpx.AsyncClient(base_url=f"http://{gateway.http_address}", headers=headers, timeout=60)
            async with channel, web:
                yield Pair(datastore, gateway, token, channel, Caller(channel), web)
