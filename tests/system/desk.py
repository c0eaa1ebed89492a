"""A person at a browser: Debian's Chromium, with everything that the page should not do noted."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import BrowserContext, ConsoleMessage, Page, Response, expect, sync_playwright

WAIT_MS: Final = 60_000
"""A limit, never what is tested: machines are busy."""
_RULES: Final = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa"]

expect.set_options(timeout=WAIT_MS)


@dataclass(slots=True)
class Desk:
    """One window.

    Attributes:
        page: The window.
        context: Its cookies and its network.
        shots: Folder of pictures.
        wrong: What the console, scripts and answers said that they should not.
        expected: Parts of messages that a test provokes.
    """

    page: Page
    context: BrowserContext
    shots: Path
    wrong: list[str] = field(default_factory=list)
    expected: list[str] = field(default_factory=list)

    def check(self, name: str) -> None:
        """Look at the page as it is: a picture, no sideways scrolling, nothing that hinders anybody, no errors."""
        self.page.screenshot(path=str(self.shots / f"{name}.png"))
        width = "document.documentElement.scrollWidth - document.documentElement.clientWidth"
        excess = self.page.evaluate(width)
        assert excess <= 0, f"{name} is {excess} pixels wider than the window"
        found = Axe().run(self.page, options={"runOnly": _RULES})
        assert found.violations_count == 0, f"{name}: {found.generate_report()}"
        self.no_errors()

    def no_errors(self) -> None:
        wrong = [text for text in self.wrong if not any(part in text for part in self.expected)]
        assert not wrong, wrong


@contextmanager
def desk_at(origin: str, shots: Path, width: int, height: int, *, dark: bool = False) -> Iterator[Desk]:
    """A window of a size in CSS pixels, with nothing in it; addresses are relative to `origin`."""
    executable = shutil.which("chromium")
    assert executable, "Chromium is needed: scripts/apt-packages.sh installs it"
    with sync_playwright() as playwright:
        # Its sandbox does not start as root, and it shows nothing but our own page.
        browser = playwright.chromium.launch(executable_path=executable, args=["--no-sandbox"])
        context = browser.new_context(
            base_url=origin,
            viewport={"width": width, "height": height},
            has_touch=width < 600,
            color_scheme="dark" if dark else "light",
            locale="en-GB",
            timezone_id="UTC",
        )
        context.set_default_timeout(WAIT_MS)
        page = context.new_page()
        desk = Desk(page, context, shots)
        page.on("pageerror", lambda error: desk.wrong.append(f"script: {error}"))

        page.on("console", lambda message: _note_message(desk, message))
        page.on("response", lambda response: _note_answer(desk, response))
        yield desk
        browser.close()


def _note_message(desk: Desk, message: ConsoleMessage) -> None:
    if message.type in ("error", "warning"):
        desk.wrong.append(f"console: {message.text} at {message.location}")


def _note_answer(desk: Desk, response: Response) -> None:
    if response.status >= 500:
        desk.wrong.append(f"{response.status} {response.url}")
