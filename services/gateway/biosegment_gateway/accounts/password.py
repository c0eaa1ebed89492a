"""Passwords of local users: Argon2id, verified away from the event loop, guessed slowly."""

from __future__ import annotations

import asyncio
import unicodedata
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Final, TypeVar

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError

from biosegment.errors import InvalidArgument, Unauthenticated
from biosegment.ids import is_id
from biosegment_gateway.accounts.tries import Tries
from biosegment_gateway.clock import Clock, now
from biosegment_gateway.ports import PasswordRows

_T = TypeVar("_T")

MIN_CHARACTERS: Final = 10
MAX_BYTES: Final = 1024
_AT_ONCE: Final = 2
"""Each verification takes 64 MiB and a few cores for a tenth of a second."""


class Passwords:
    """Sets and verifies passwords.

    Args:
        rows: Hashes by user.
        tries: Slows guessing down.
        clock: When passwords were changed.
        hasher: Argon2id with the parameters of RFC 9106 for 64 MiB, unless a test says otherwise.
    """

    def __init__(
        self, rows: PasswordRows, tries: Tries, clock: Clock = now, hasher: PasswordHasher | None = None
    ) -> None:
        self._rows = rows
        self.tries = tries
        self._clock = clock
        self._hasher = hasher or PasswordHasher()
        self._threads = ThreadPoolExecutor(_AT_ONCE, thread_name_prefix="argon2")
        # What a user without a password is compared with, so that the answer takes as long.
        self._nobody = ""

    async def has(self, user_id: str) -> bool:
        """Whether there is such a user, with a password."""
        return is_id(user_id) and await self._rows.get(user_id) is not None

    async def check(self, user_id: str, password: str, address: str) -> None:
        """Return when the password is the user's.

        Args:
            user_id: Whoever says to be that; need not exist.
            password: As typed.
            address: Where it was typed, without the port; '' when nobody knows.

        Raises:
            Unauthenticated: BAD_LOGIN, whether or not there is such a user.
            ResourceExhausted: TOO_MANY_TRIES, with `retry_after_s`; nothing was compared then.
        """
        await self.tries.begin(user_id, address)
        stored = await self._rows.get(user_id) if is_id(user_id) else None
        if stored is None and not self._nobody:
            self._nobody = await self._in_thread(self._hasher.hash, "nobody has this password")
        right = await self._in_thread(self._verify, stored or self._nobody, password)
        if stored is None or not right:
            raise Unauthenticated("BAD_LOGIN", "user id and password do not belong together")
        await self.tries.succeed(user_id, address)
        if self._hasher.check_needs_rehash(stored):
            await self._rows.put(user_id, await self._hash(password), self._clock())

    async def set(self, user_id: str, password: str) -> None:
        """Give a user a password.

        Raises:
            InvalidArgument: WEAK_PASSWORD, PASSWORD_TOO_LONG.
        """
        if len(password) < MIN_CHARACTERS or len(set(password)) < 4 or password == user_id:
            raise InvalidArgument(
                "WEAK_PASSWORD",
                f"a password has at least {MIN_CHARACTERS} characters, several different ones; "
                "some words in a row are easy to keep in mind",
            )
        if len(_normal(password)) > MAX_BYTES:
            raise InvalidArgument("PASSWORD_TOO_LONG", f"a password has at most {MAX_BYTES} bytes")
        await self._rows.put(user_id, await self._hash(password), self._clock())

    def close(self) -> None:
        """Stop the threads."""
        self._threads.shutdown(wait=False, cancel_futures=True)

    async def _hash(self, password: str) -> str:
        return await self._in_thread(lambda: self._hasher.hash(_normal(password)))

    def _verify(self, stored: str, password: str) -> bool:
        # Whatever was sent is hashed, so that the answer to a long one takes as long; its beginning is enough.
        try:
            return self._hasher.verify(stored, _normal(password)[: MAX_BYTES + 1])
        except (VerificationError, InvalidHashError):
            return False

    async def _in_thread(self, function: Callable[..., _T], *arguments: str) -> _T:
        return await asyncio.get_running_loop().run_in_executor(self._threads, function, *arguments)


def _normal(password: str) -> bytes:
    """The same bytes whichever keyboard composed the letters."""
    return unicodedata.normalize("NFC", password).encode(errors="surrogatepass")
