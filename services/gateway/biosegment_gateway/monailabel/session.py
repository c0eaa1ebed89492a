"""Images that clients send for themselves: a file, kept until nobody has used it for a while."""

from __future__ import annotations

import asyncio
import contextlib
import re
import shutil
import uuid
from pathlib import Path
from typing import Any, Final

import structlog

from biosegment.auth import Principal
from biosegment.errors import InvalidArgument, NotFound
from biosegment_gateway.monailabel.record import SessionRecord
from biosegment_gateway.monailabel.sql import Records, now_us

_MAX_EXPIRY_S: Final = 7 * 24 * 3600
_ID: Final = re.compile(r"[0-9a-f-]{36}")
_log = structlog.get_logger("biosegment_gateway.monailabel")


class Sessions:
    """Sessions of all projects; each is its user's alone. Rows say which there are, files lie in one folder.

    Args:
        records: Rows.
        folder: Of files, for nothing else.
        expiry_s: Of sessions whose client does not say.
    """

    def __init__(self, records: Records, folder: Path, expiry_s: float) -> None:
        self._records = records
        self._folder = folder
        self._expiry_s = int(expiry_s)

    async def add(
        self, principal: Principal, project_id: str, source: Path, name: str, expiry_s: int
    ) -> SessionRecord:
        """Keep a copy of a file; `expiry_s` 0 for the usual time. InvalidArgument BAD_EXPIRY."""
        if not 0 <= expiry_s <= _MAX_EXPIRY_S:
            raise InvalidArgument(
                "BAD_EXPIRY", f"expiry {expiry_s} is not within 0 to {_MAX_EXPIRY_S} seconds"
            )
        await self._sweep()
        session_id = str(uuid.uuid4())
        size = await asyncio.to_thread(_copy, source, self.path(session_id))
        time_us = now_us()
        record = SessionRecord(
            session_id,
            project_id,
            principal.user,
            name[-200:],
            size,
            expiry_s or self._expiry_s,
            time_us,
            time_us,
        )
        # The file first: a row that names none would be a session that cannot be used.
        await self._records.add_session(record)
        return record

    async def get(
        self, principal: Principal, project_id: str, session_id: str, *, is_use: bool = True
    ) -> SessionRecord:
        """A session of the caller; NotFound SESSION_NOT_FOUND, also when it has ended."""
        absent = NotFound("SESSION_NOT_FOUND", f"there is no session {session_id[:60]!r}, or it has ended")
        if not _ID.fullmatch(session_id):
            raise absent
        record = await self._records.session(session_id)
        if record is None or (record.user_id, record.project_id) != (principal.user, project_id):
            raise absent
        if record.access_time_us + record.expiry_s * 1_000_000 < now_us():
            await self._drop(session_id)
            raise absent
        if not await asyncio.to_thread(self.path(session_id).exists):
            await self._drop(session_id)
            raise absent
        if is_use:
            await self._records.touch_session(session_id)
        return record

    async def drop(self, principal: Principal, project_id: str, session_id: str) -> SessionRecord:
        """End a session; NotFound SESSION_NOT_FOUND."""
        record = await self.get(principal, project_id, session_id, is_use=False)
        await self._drop(session_id)
        return record

    def path(self, session_id: str) -> Path:
        """Where the file of a session lies."""
        return self._folder / session_id

    async def _sweep(self) -> None:
        for session_id in await self._records.expired_sessions():
            _log.info("session_expired", session=session_id)
            await self._drop(session_id)

    async def _drop(self, session_id: str) -> None:
        await self._records.drop_session(session_id)
        with contextlib.suppress(OSError):
            await asyncio.to_thread(self.path(session_id).unlink, missing_ok=True)


def session_document(record: SessionRecord) -> dict[str, Any]:
    """A session as clients read it; there is no path that a client could open."""
    return {
        "name": record.session_id,
        "path": "",
        "image": record.name,
        "meta": {"size_bytes": record.size_bytes},
        "create_ts": record.create_time_us // 1_000_000,
        "last_access_ts": record.access_time_us // 1_000_000,
        "expiry": record.expiry_s,
    }


def _copy(source: Path, target: Path) -> int:
    target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    staged = target.with_name(f".{target.name}")
    shutil.copyfile(source, staged)
    staged.replace(target)
    return target.stat().st_size
