"""Bodies of requests to the MONAI Label API: forms with files, and JSON, of bounded size."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from starlette.datastructures import FormData, UploadFile
from starlette.formparsers import MultiPartException
from starlette.requests import ClientDisconnect, Request

from biosegment.errors import InvalidArgument
from biosegment.ids import new_id
from biosegment_gateway.http.body import BodyLimit

_MAX_PARTS: Final = 16
_MAX_FIELD_BYTES: Final = 8 << 20
"""Of a field that is no file; thousands of clicks have less."""
_ADVICE: Final = "import big volumes with `biosegment volume import`"


class MissingParameter(InvalidArgument):
    """MISSING_PARAMETER; 422, as clients of MONAI Label know it."""

    http_status = 422


@dataclass(frozen=True, slots=True)
class SentFile:
    """A file that came along: its name, without a folder, and where it lies until the request ends."""

    name: str
    path: Path


class Form:
    """A form that was received whole."""

    def __init__(self, data: FormData, folder: Path) -> None:
        self._data = data
        self._folder = folder

    def text(self, name: str, default: str = "") -> str:
        """A field; the default when it is absent or a file."""
        value = self._data.get(name)
        return value if isinstance(value, str) else default

    def json(self, *names: str) -> dict[str, Any]:
        """An object in the first of these fields that is there; {} when none is. InvalidArgument BAD_JSON."""
        for name in names:
            if text := self.text(name):
                return parse_object(text.encode(), f"the field {name!r}")
        return {}

    @asynccontextmanager
    async def file(self, name: str) -> AsyncIterator[SentFile | None]:
        """The file of a field, None when none was sent."""
        async with self.files(name) as found:
            yield found[0] if found else None

    @asynccontextmanager
    async def files(self, name: str) -> AsyncIterator[list[SentFile]]:
        """All files of a field."""
        found: list[SentFile] = []
        try:
            for item in self._data.getlist(name):
                if isinstance(item, UploadFile):
                    path = self._folder / new_id()
                    file_name = (item.filename or "file").replace("\\", "/").rpartition("/")[2][-200:]
                    found.append(SentFile(file_name, path))
                    await asyncio.to_thread(_copy, item, path)
            yield found
        finally:
            for each in found:
                await asyncio.to_thread(each.path.unlink, missing_ok=True)


@asynccontextmanager
async def read_form(request: Request, folder: Path, max_bytes: int) -> AsyncIterator[Form]:
    """Receive a form.

    Args:
        request: With a multipart or urlencoded body.
        folder: For its files, until the end.
        max_bytes: Of the body.

    Raises:
        BodyTooLarge: BODY_TOO_LARGE.
        InvalidArgument: BAD_FORM.
    """
    limited = Request(request.scope, BodyLimit(request, max_bytes, _ADVICE).receive)
    try:
        data = await limited.form(max_files=_MAX_PARTS, max_fields=_MAX_PARTS, max_part_size=_MAX_FIELD_BYTES)
    except (MultiPartException, ValueError, KeyError) as error:
        raise InvalidArgument(
            "BAD_FORM", f"the body is no form that can be read: {str(error)[:200]}"
        ) from error
    except ClientDisconnect as error:
        raise InvalidArgument("BODY_INCOMPLETE", "the connection ended before the body did") from error
    except Exception as error:
        # Starlette says so by its own exception, which knows no reason.
        if type(error).__name__ == "HTTPException":
            raise InvalidArgument("BAD_FORM", str(getattr(error, "detail", error))[:200]) from error
        raise
    try:
        yield Form(data, folder)
    finally:
        await limited.close()


async def read_object(request: Request, max_bytes: int = _MAX_FIELD_BYTES) -> dict[str, Any]:
    """The JSON object in a body, {} when there is none; BodyTooLarge, InvalidArgument BAD_JSON."""
    body = await BodyLimit(request, max_bytes, _ADVICE).read()
    return parse_object(body, "the body") if body.strip() else {}


def parse_object(data: bytes, what: str) -> dict[str, Any]:
    """A JSON object; null is an empty one. InvalidArgument BAD_JSON."""
    try:
        found = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise InvalidArgument("BAD_JSON", f"{what} is no JSON: {str(error)[:100]}") from error
    if found is None:
        return {}
    if not isinstance(found, dict):
        raise InvalidArgument("BAD_JSON", f"{what} must be a JSON object, not a {type(found).__name__}")
    return found


def query(request: Request, name: str, default: str | None = None) -> str:
    """A parameter of the query; MissingParameter when it is not there and has no default."""
    value = request.query_params.get(name)
    if value is None:
        if default is None:
            raise MissingParameter("MISSING_PARAMETER", f"the query lacks {name}=...")
        return default
    return value


def flag(request: Request, name: str) -> bool:
    """A parameter of the query that is true or false."""
    return request.query_params.get(name, "").lower() in ("true", "1", "yes", "on")


def _copy(item: UploadFile, path: Path) -> None:
    item.file.seek(0)
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "wb") as target:
        shutil.copyfileobj(item.file, target, 1 << 20)
