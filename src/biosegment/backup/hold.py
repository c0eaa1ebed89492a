"""What a backup keeps for itself while it lives: the platform's objects from being removed, and the target.

Both run out by themselves, so that a backup that died keeps nobody waiting for long.
"""

from __future__ import annotations

import contextlib
import json
import os
import socket
import threading
import time
from collections.abc import Iterator, Sequence
from typing import Final, Protocol

import sqlalchemy as sa

from biosegment.database import begin_writing
from biosegment.errors import BiosegmentError, FailedPrecondition, NotFound
from biosegment.ids import new_id
from biosegment.storage.objects import BlockingObjects

LIFETIME_S: Final = 600.0
_HOLDS: Final = sa.table("holds", sa.column("id"), sa.column("expire_time_us"))
_LOCK: Final = "lock"


class Hold(Protocol):
    """Something that is kept for a while."""

    def take(self, lifetime_s: float) -> None: ...

    def prolong(self, lifetime_s: float) -> bool:
        """False when it has run out."""

    def release(self) -> None: ...


class CollectorHold:
    """Nothing is removed from the object storage: a row in the datastore's database."""

    def __init__(self, engine: sa.Engine) -> None:
        self._engine = engine
        self._id = new_id()

    def take(self, lifetime_s: float) -> None:
        """Raises FailedPrecondition DATABASE_TOO_OLD when the collector knows no holds yet."""
        if not sa.inspect(self._engine).has_table(_HOLDS.name):
            raise FailedPrecondition(
                "DATABASE_TOO_OLD",
                "the platform's database was made by an older release: start the platform with this release once, "
                "then make the backup",
            )
        with begin_writing(self._engine) as connection:
            connection.execute(sa.delete(_HOLDS).where(_HOLDS.c.expire_time_us < _now_us()))
            values = {"id": self._id, "expire_time_us": _now_us() + int(lifetime_s * 1e6)}
            connection.execute(sa.insert(_HOLDS).values(values))

    def prolong(self, lifetime_s: float) -> bool:
        mine = sa.update(_HOLDS).where(_HOLDS.c.id == self._id, _HOLDS.c.expire_time_us > _now_us())
        with begin_writing(self._engine) as connection:
            until = _now_us() + int(lifetime_s * 1e6)
            return bool(connection.execute(mine.values(expire_time_us=until)).rowcount)

    def release(self) -> None:
        with begin_writing(self._engine) as connection:
            connection.execute(sa.delete(_HOLDS).where(_HOLDS.c.id == self._id))


class TargetLock:
    """Nobody else writes to the target or prunes it: an object in it."""

    def __init__(self, target: BlockingObjects) -> None:
        self._target = target
        self._id = new_id()

    def take(self, lifetime_s: float) -> None:
        """Raises FailedPrecondition TARGET_BUSY."""
        while not self._target.put_if_absent(_LOCK, self._content(lifetime_s)):
            owner, expires_s, process = self._owner()
            if expires_s > time.time() and not _has_died(process):
                raise FailedPrecondition(
                    "TARGET_BUSY",
                    "another backup writes to this place, or died a moment ago: wait for it, at most "
                    f"{expires_s - time.time():.0f} s after its death",
                )
            if owner:
                self._target.delete(_LOCK)

    def prolong(self, lifetime_s: float) -> bool:
        if self._owner()[0] != self._id:
            return False
        self._target.put(_LOCK, self._content(lifetime_s))
        return True

    def release(self) -> None:
        if self._owner()[0] == self._id:
            self._target.delete(_LOCK)

    def _content(self, lifetime_s: float) -> bytes:
        content = {"owner": self._id, "expires_s": time.time() + lifetime_s, "process": _this_process()}
        return json.dumps(content).encode()

    def _owner(self) -> tuple[str, float, str]:
        try:
            content = json.loads(self._target.get(_LOCK))
            return str(content["owner"]), float(content["expires_s"]), str(content["process"])
        except NotFound:
            return "", 0.0, ""
        except (ValueError, KeyError, TypeError):
            return "unknown", 0.0, ""


class Keeper:
    """Prolongs holds in a thread of its own."""

    def __init__(self, holds: Sequence[Hold], lifetime_s: float) -> None:
        self._holds = holds
        self._lifetime_s = lifetime_s
        self._good_until_s = time.monotonic() + lifetime_s
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="backup-holds", daemon=True)

    def require(self) -> None:
        """Raise FailedPrecondition HOLD_LOST when a hold ran out: objects may have been removed meanwhile."""
        if time.monotonic() > self._good_until_s:
            raise FailedPrecondition(
                "HOLD_LOST",
                "the backup could not keep its hold (was this machine suspended, or the database away?), so that it "
                "may lack something: begin it again; what was copied is not copied again",
            )

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._stop.wait(self._lifetime_s / 6):
            began_s = time.monotonic()
            try:
                kept = all([hold.prolong(self._lifetime_s) for hold in self._holds])
            except BiosegmentError:
                continue  # away for a moment; it counts when it lasts
            if not kept:
                self._good_until_s = 0.0
                return
            self._good_until_s = began_s + self._lifetime_s


@contextlib.contextmanager
def kept(holds: Sequence[Hold], lifetime_s: float = LIFETIME_S) -> Iterator[Keeper]:
    """Take holds, in order, and keep them until the block ends.

    Raises:
        FailedPrecondition: TARGET_BUSY, DATABASE_TOO_OLD.
    """
    with contextlib.ExitStack() as stack:
        for hold in holds:
            hold.take(lifetime_s)
            stack.callback(_released, hold)
        keeper = Keeper(holds, lifetime_s)
        keeper.start()
        stack.callback(keeper.stop)
        yield keeper


def _released(hold: Hold) -> None:
    with contextlib.suppress(BiosegmentError):
        hold.release()


def _this_process() -> str:
    return f"{socket.gethostname()}/{os.getpid()}"


def _has_died(process: str) -> bool:
    """Whether it was a process of this machine, and is no more."""
    host, _, number = process.rpartition("/")
    if host != socket.gethostname() or not number.isdecimal():
        return False
    try:
        os.kill(int(number), 0)
    except ProcessLookupError:
        return True
    except PermissionError:
        return False
    return False


def _now_us() -> int:
    return time.time_ns() // 1000
