"""Small HTTP requests of signing in, with the standard library alone: the SDK needs no HTTP client otherwise."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import urlencode, urlsplit

from biosegment.client.transport import https_context
from biosegment.errors import InvalidArgument, Unavailable

_TIMEOUT_S: Final = 30.0
_LONGEST: Final = 1 << 20


@dataclass(frozen=True, slots=True)
class Answer:
    """What a server said: `body` is the JSON object in it, {} when there is none."""

    status: int
    body: dict[str, Any]
    cookies: tuple[str, ...] = ()

    def text(self, name: str) -> str:
        """A text in the body; '' when it is not there."""
        value = self.body.get(name)
        return value if isinstance(value, str) else ""


def request(
    method: str,
    url: str,
    *,
    form: Mapping[str, str] | None = None,
    value: object = None,
    token: str = "",
) -> Answer:
    """Send a request and return what is answered, whatever its status.

    Args:
        method: GET or POST.
        url: http(s)://...
        form: Sent as a form.
        value: Sent as JSON.
        token: Sent as bearer token.

    Raises:
        InvalidArgument: BAD_ADDRESS.
        Unavailable: SERVICE_UNAVAILABLE when nobody answers.
    """
    if urlsplit(url).scheme not in ("http", "https"):
        raise InvalidArgument("BAD_ADDRESS", f"{url!r} is no http:// or https:// address")
    headers = {"accept": "application/json"} | ({"authorization": f"Bearer {token}"} if token else {})
    data = None
    if form is not None:
        data = urlencode(form).encode()
    elif value is not None:
        data, headers["content-type"] = json.dumps(value).encode(), "application/json"
    try:
        # The scheme was looked at above.
        asked = urllib.request.Request(url, data, headers, method=method)
        opener = urllib.request.build_opener(
            _NoRedirect, urllib.request.HTTPSHandler(context=https_context())
        )
        with opener.open(asked, timeout=_TIMEOUT_S) as answer:
            return _answer(answer)
    except urllib.error.HTTPError as error:
        with error:
            return _answer(error)
    except (OSError, ValueError) as error:
        reason = getattr(error, "reason", None) or error
        raise Unavailable("SERVICE_UNAVAILABLE", f"{url} cannot be reached: {reason}") from error


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """Secrets go where they were meant for, and nowhere else."""

    def redirect_request(self, *_: Any, **__: Any) -> None:
        return None


def _answer(answer: Any) -> Answer:
    try:
        body = json.loads(answer.read(_LONGEST) or b"{}")
    except ValueError:
        body = {}
    cookies = tuple(answer.headers.get_all("set-cookie") or ())
    return Answer(answer.status, body if isinstance(body, dict) else {}, cookies)
