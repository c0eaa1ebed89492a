"""Links for viewers: who knows one reads one volume and its chosen layers, as the user who made it, until it ends.

A link is `{claims}.{signature}`, both in base 64. Nothing is stored: it ends at its time, when its user may not sign in
or not see the volume any more, and when the gateway gets a new signing key, which ends all links at once.
"""

from __future__ import annotations

import base64
import binascii
import hmac
import json
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from biosegment.auth import Kind, Limit, Principal, Scope
from biosegment.errors import InvalidArgument, Unauthenticated
from biosegment.expiring import Expiring
from biosegment.ids import is_id
from biosegment_gateway.ports import Accounts
from biosegment_gateway.signature import derived_key, signature
from biosegment_gateway.viewing.exhibit import Exhibit, Exhibition

MAX_LAYERS: Final = 16
"""Each layer makes the link longer, and a page's address holds the link once for each."""
_USER_LIFETIME_S: Final = 2.0


@dataclass(frozen=True, slots=True)
class ViewLink:
    """What a link lets see.

    Attributes:
        volume: Resource name.
        layers: Ids of layers of it.
        user_id: In whose name.
        end: Seconds since 1970.
    """

    volume: str
    layers: tuple[str, ...]
    user_id: str
    end: int

    @property
    def file_name(self) -> str:
        """Last part of the address: readers know by it what to expect."""
        return f"{self.volume.rpartition('/')[2]}.ome.zarr"


class ViewLinks:
    """Makes links, and says whether they hold.

    Args:
        key: Of the signatures; secret.
        exhibition: What there is, and who may see it.
        accounts: Users.
        max_lifetime_s: Of a link.
        now: Seconds since 1970.
    """

    def __init__(
        self,
        key: bytes,
        exhibition: Exhibition,
        accounts: Accounts,
        max_lifetime_s: int,
        now: Callable[[], float] = time.time,
    ) -> None:
        self._key = key
        self._exhibition = exhibition
        self._accounts = accounts
        self._max_lifetime_s = max_lifetime_s
        self._now = now
        self._users: Expiring[str, Principal | None] = Expiring(_USER_LIFETIME_S)

    @classmethod
    def with_key_of(
        cls, signing_key_file: Path, exhibition: Exhibition, accounts: Accounts, max_lifetime_s: int
    ) -> ViewLinks:
        """With a key that follows from the gateway's own, so that every replica takes the same links."""
        return cls(derived_key(signing_key_file, "view link"), exhibition, accounts, max_lifetime_s)

    async def make(
        self, principal: Principal, volume: str, layers: tuple[str, ...], lifetime_s: int
    ) -> tuple[ViewLink, Exhibit, list[Exhibit]]:
        """A link for somebody, with what it shows.

        Args:
            principal: Who sees the volume; only a user.
            volume: Resource name.
            layers: Ids or resource names of layers of the volume.
            lifetime_s: Seconds.

        Raises:
            InvalidArgument: BAD_LIFETIME, TOO_MANY_LAYERS, BAD_LAYER.
            NotFound: Of the volume or a layer.
        """
        if not 1 <= lifetime_s <= self._max_lifetime_s:
            raise InvalidArgument(
                "BAD_LIFETIME", f"lifetimeS {lifetime_s} is not between 1 and {self._max_lifetime_s} seconds"
            )
        ids = tuple(dict.fromkeys(each.removeprefix(f"{volume}/layers/") for each in layers))
        if len(ids) > MAX_LAYERS:
            raise InvalidArgument(
                "TOO_MANY_LAYERS", f"a link shows at most {MAX_LAYERS} layers, not {len(ids)}"
            )
        shown = await self._exhibition.get(principal, volume)
        found = []
        for layer_id in ids:
            if not is_id(layer_id):
                raise InvalidArgument("BAD_LAYER", f"{layer_id[:100]!r} is no layer of {volume}")
            layer = await self._exhibition.get(principal, f"{volume}/layers/{layer_id}")
            if layer.channels != 1:
                raise InvalidArgument(
                    "BAD_LAYER",
                    f"{layer.name} has {layer.channels} values for each voxel, which no viewer shows",
                )
            found.append(layer)
        end = int(self._now()) + lifetime_s
        return ViewLink(volume, ids, principal.user, end), shown, found

    def text(self, link: ViewLink) -> str:
        """The link as it stands in addresses."""
        claims = json.dumps([link.volume, link.layers, link.user_id, link.end], separators=(",", ":"))
        body = _to_base64(claims.encode())
        return f"{body}.{_to_base64(signature(self._key, body))}"

    def read(self, text: str) -> ViewLink:
        """What a link lets see.

        Raises:
            Unauthenticated: BAD_LINK when it was not made here or not copied whole; LINK_EXPIRED.
        """
        if not text:
            raise Unauthenticated("NO_TOKEN", "the address has no link in it")
        body, _, signed = text.partition(".")
        if not hmac.compare_digest(signed.encode(), _to_base64(signature(self._key, body)).encode()):
            raise Unauthenticated(
                "BAD_LINK", "the link was not made here, or not copied whole; ask for a new one"
            )
        volume, layers, user_id, end = json.loads(_from_base64(body))
        link = ViewLink(volume, tuple(layers), user_id, end)
        if link.end <= self._now():
            raise Unauthenticated("LINK_EXPIRED", "the link is not valid any more; ask for a new one")
        return link

    async def principal(self, link: ViewLink) -> Principal:
        """The user who made a link, as they are now, or were two seconds ago.

        Raises:
            Unauthenticated: USER_DISABLED.
        """
        principal = await self._users.get(link.user_id, lambda: self._user(link.user_id))
        if principal is None:
            raise Unauthenticated("USER_DISABLED", "the user who made this link may not sign in any more")
        # Whatever the user may do besides.
        return replace(principal, limits=(Limit(Scope.READ, link.volume.split("/")[1]),))

    async def _user(self, user_id: str) -> Principal | None:
        user = await self._accounts.get_user(user_id)
        if user is None or user.disabled:
            return None
        return Principal(Kind.USER, user.user_id, is_admin=user.is_admin, display_name=user.display_name)


def _to_base64(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).decode().rstrip("=")


def _from_base64(text: str) -> bytes:
    try:
        return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
    except binascii.Error as error:
        raise Unauthenticated("BAD_LINK", "the link was not copied whole; ask for a new one") from error
