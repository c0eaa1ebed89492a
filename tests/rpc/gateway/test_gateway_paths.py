"""Names in addresses that would lead elsewhere: refused on every route, and never by an error of ours."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Iterator, Sequence
from functools import partial
from typing import Any

import httpx
import pytest
from starlette.routing import Mount, Route

from tests.rpc.gateway.pair import Pair, open_pair

HOSTILE = (
    "..",
    "%2e%2e",
    "..%2f..%2f..%2f..%2fetc%2fpasswd",
    "%2fetc%2fpasswd",
    "a%00b",
    "%ff%fe",
    "a%0d%0aSet-Cookie:%20x=1",
    "x" * 3000,
)
OURS = {500, 502, 504}
_PARAMETER = re.compile(r"{(\w+)(?::\w+)?}")


def _routes(routes: Any, prefix: str = "") -> Iterator[tuple[str, str]]:
    """Every route that has a parameter: a method of it, and its path."""
    for route in routes:
        if isinstance(route, Mount):
            yield from _routes(route.routes, prefix + route.path)
        elif isinstance(route, Route) and _PARAMETER.search(prefix + route.path):
            methods = sorted((route.methods or {"GET"}) - {"HEAD", "OPTIONS"})
            yield "POST" if "POST" in methods else methods[0], prefix + route.path


def _paths(path: str, hostile: Sequence[str]) -> Iterator[str]:
    """The path with its parameters, one after the other and from the last to the first, as something hostile."""
    names = _PARAMETER.findall(path)
    for number, bad in enumerate(hostile):
        wrong = names[-1 - number % len(names)]
        yield _PARAMETER.sub(partial(_filled, wrong, bad), path)


def _filled(wrong: str, bad: str, found: re.Match[str]) -> str:
    return bad if found[1] == wrong else "p"


@pytest.fixture
async def pair(keys, tmp_path, make_settings) -> AsyncIterator[Pair]:
    async with open_pair(tmp_path, keys, make_settings) as found:
        yield found


@pytest.fixture
def secrets(tmp_path, pair) -> tuple[str, ...]:
    (tmp_path / "objects").mkdir(exist_ok=True)
    (tmp_path / "objects" / "outside").write_text("what nobody may see")
    return pair.token, "what nobody may see", "root:x:", "SQLite format"


def _request(pair: Pair, method: str, path: str) -> httpx.Request:
    """A request whose path stays as it is: clients tidy up what they are given."""
    url = httpx.URL(scheme="http", netloc=pair.gateway.http_address.encode(), raw_path=path.encode())
    return httpx.Request(method, url)


async def test_no_name_in_an_address_leads_elsewhere(pair, secrets):
    asked, wrong = 0, []
    for method, path in sorted(set(_routes(pair.gateway.application.routes))):
        for hostile in _paths(path, HOSTILE):
            request = _request(pair, method, hostile)
            request.headers["authorization"] = f"Bearer {pair.token}"
            answer = await pair.web.send(request)
            asked += 1
            if answer.status_code in OURS or "set-cookie" in answer.headers:
                wrong.append(f"{method} {hostile[:100]}: {answer.status_code} {answer.text[:200]}")
            if any(secret in answer.text for secret in secrets):
                wrong.append(f"{method} {hostile[:100]}: {answer.text[:200]}")
    assert not wrong, "\n".join(wrong[:20])
    assert asked > 200


async def test_without_a_token_no_name_opens_what_another_does_not(pair, secrets):
    for method, path in sorted(set(_routes(pair.gateway.application.routes))):
        # The page's shell, and where a MONAI Label client learns what it is talking to, are open.
        harmless = await pair.web.send(_request(pair, method, _PARAMETER.sub("p", path)))
        for hostile in _paths(path, HOSTILE[1:3]):
            answer = await pair.web.send(_request(pair, method, hostile))
            assert answer.status_code >= 400 or answer.text == harmless.text, (method, hostile[:100])
            assert answer.status_code not in OURS, (method, hostile[:100], answer.text[:200])
            assert not any(secret in answer.text for secret in secrets)
