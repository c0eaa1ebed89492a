"""Slows guessing of passwords down: after some tries each further one waits longer than the one before."""

from __future__ import annotations

import hashlib
import ipaddress
import math
from datetime import timedelta
from typing import Final

from biosegment.errors import ResourceExhausted
from biosegment_gateway.clock import Clock, now
from biosegment_gateway.domain import Rule
from biosegment_gateway.ports import TryRows

_FORGOTTEN_AFTER: Final = timedelta(hours=1)


_HERE: Final = Rule(5, 900.0)
"""One user from one address."""
_USER: Final = Rule(30, 60.0)
"""One user from everywhere: short, since others must not lock somebody out for long."""
_ADDRESS: Final = Rule(30, 900.0)
"""One address, whichever users it tries."""


class Tries:
    """Counts tries to sign in, in SQL: a restart or another replica gives no new ones.

    A try counts when it begins, so that many at the same time are no way around.
    """

    def __init__(self, rows: TryRows, clock: Clock = now) -> None:
        self._rows = rows
        self._clock = clock

    async def begin(self, user_id: str, address: str) -> None:
        """Count a try.

        Raises:
            ResourceExhausted: TOO_MANY_TRIES when it must wait, with `retry_after_s`; it is not counted then.
        """
        present = self._clock()
        open_time = await self._rows.begin(_subjects(user_id, address), present, _FORGOTTEN_AFTER)
        if open_time > present:
            wait_s = max(1, math.ceil((open_time - present).total_seconds()))
            raise ResourceExhausted(
                "TOO_MANY_TRIES",
                f"too many tries to sign in; the next one is possible in {wait_s} s",
                retry_after_s=str(wait_s),
            )

    async def succeed(self, user_id: str, address: str) -> None:
        """The user knew the password: their tries are forgotten, and the address has one try back."""
        subjects = _subjects(user_id, address)
        address_key = _key("address", _network(address))
        await self._rows.forget([key for key in subjects if key != address_key], [address_key])


def _subjects(user_id: str, address: str) -> dict[str, Rule]:
    found = {_key("user", user_id): _USER, _key("here", f"{user_id}\n{_network(address)}"): _HERE}
    if address:
        found[_key("address", _network(address))] = _ADDRESS
    return found


def _network(address: str) -> str:
    """An IPv6 address stands for its /64: one customer has all of them."""
    try:
        place = ipaddress.ip_address(address)
    except ValueError:
        return address
    return str(ipaddress.ip_network((place, 64), strict=False)) if place.version == 6 else address


def _key(kind: str, text: str) -> str:
    # People type passwords where their name belongs: what was typed is not kept.
    return hashlib.sha256(f"{kind}\n{text}".encode(errors="replace")).hexdigest()
