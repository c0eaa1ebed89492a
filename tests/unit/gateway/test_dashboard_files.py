"""The built page belongs to the sources beside it; tests/system/test_web_build.py builds it again."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path

import biosegment_gateway.http
from biosegment_gateway.http.dashboard import is_page

ROOT = Path(__file__).resolve().parents[3]
WEB = ROOT / "clients" / "web"
PAGE = Path(biosegment_gateway.http.__file__).parent / "page"
SOURCES = (
    "index.html",
    "package-lock.json",
    "package.json",
    "public",
    "src",
    "tsconfig.json",
    "vite.config.ts",
)


def _sums() -> str:
    paths = [path for source in SOURCES for path in (WEB / source, *sorted((WEB / source).rglob("*")))]
    files = sorted(path.relative_to(WEB).as_posix() for path in paths if path.is_file())
    return "".join(f"{hashlib.sha256((WEB / file).read_bytes()).hexdigest()}  {file}\n" for file in files)


def test_the_page_was_built_from_these_sources() -> None:
    assert (PAGE / "source.sha256").read_text() == _sums(), (
        "clients/web has changed since the page was built: run `make web`, and commit what it changes"
    )


def test_the_page_loads_its_own_files_and_nothing_inline() -> None:
    text = (PAGE / "index.html").read_text()
    loaded = re.findall(r'(?:src|href)="([^"]+)"', text)
    assert sum(path.endswith(".js") for path in loaded) == 1
    assert sum(path.endswith(".css") for path in loaded) == 1
    for path in loaded:
        assert (PAGE / path.removeprefix("/")).is_file(), path
        assert is_page(path)
    assert {f"/assets/{file.name}" for file in (PAGE / "assets").iterdir()} == set(loaded) - {"/icon.svg"}
    assert text.count("<script") == text.count('<script type="module"') == 1
    assert not re.search(r"<style| style=| on\w+=", text)


def test_only_the_shell_of_the_page_is_open() -> None:
    assert all(map(is_page, ("/", "/projects/p/volumes/v", "/administration/audit", "/account")))
    closed = (
        "/api/projects",
        "/projectsx",
        "/accounts",
        "/tiles/projects/p",
        "/thumbnails/projects/p",
        "/version",
    )
    assert not any(map(is_page, closed))
