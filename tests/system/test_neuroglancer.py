"""Neuroglancer in a real browser, on a volume and its layers of a real platform."""

from __future__ import annotations

import io
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import numpy as np
import pytest
import tifffile
from numpy.typing import NDArray
from PIL import Image
from playwright.sync_api import Page, sync_playwright

from biosegment.client.connection import Connection, find_connection
from biosegment.client.resources import LabelClass
from biosegment.synthetic import generate
from biosegment.volume import VoxelSize
from tests.system.platform import running, until

pytestmark = [pytest.mark.system, pytest.mark.timeout(580)]

WIDTH, HEIGHT = 1200, 860
LIMIT_S = 120.0
RED = 0xFF1010
SHAPE = (96, 1024, 1024)


@pytest.fixture(scope="module")
def shown(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Connection, str, str]]:
    """The platform, a volume of 100 MB with a pyramid, and a layer that marks the left half of its mitochondria."""
    folder = tmp_path_factory.mktemp("neuroglancer")
    raw, truth = (np.tile(part, (2, 4, 4)) for part in generate((48, 256, 256), 3))
    imports = folder / "imports"
    imports.mkdir()
    tifffile.imwrite(imports / "tissue.tif", raw, photometric="minisblack")
    labels = np.where(truth > 0, 2, 1).astype(np.uint8)
    labels[:, :, 512:] = 1
    with running(folder, import_root=imports) as platform, platform.connect() as client:
        client.projects.create("em", classes=[LabelClass(0, "mitochondria", RED)])
        job = client.jobs.import_volume(
            "projects/em", str(imports / "tissue.tif"), voxel_size=VoxelSize(24, 8, 8)
        )
        volume = client.jobs.wait(job.name).volume
        layer = client.volumes.write_layer(volume, labels, display_name="prediction").name
        yield find_connection(data_dir=platform.data_dir), volume, layer


def link(shown: tuple[Connection, str, str], **others: Any) -> str:
    connection, volume, layer = shown
    answer = httpx.post(
        f"{connection.http_url}/links",
        json={"name": volume, "layers": [layer], **others},
        headers={"authorization": f"Bearer {connection.token}"},
    )
    assert answer.status_code == 200, answer.text
    url: str = answer.json()["neuroglancerUrl"]
    return url


@dataclass(frozen=True, slots=True)
class Window:
    """A browser's window.

    Attributes:
        page: What it shows.
        requests: URLs of everything that the page asked for.
        complaints: What the console and scripts said that they should not.
    """

    page: Page
    requests: list[str] = field(default_factory=list)
    complaints: list[str] = field(default_factory=list)

    def show(self, url: str, path: Path) -> NDArray[np.uint8]:
        """Open an address, wait until everything that is in view was drawn, and look: (y, x, RGB)."""
        self.page.goto("about:blank")
        self.page.goto(url)
        for is_there in (
            "window.viewer && viewer.layerManager.managedLayers.length === 2",
            "viewer.layerManager.managedLayers.every((each) => each.isReady())",
            "viewer.isReady()",
        ):
            # The page's policy forbids what the browser's own way of waiting does.
            until(lambda each=is_there: bool(self.page.evaluate(each)), LIMIT_S, is_there)
        drawn = "new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))"
        self.page.evaluate(drawn)
        picture = self.page.screenshot(path=path)
        return np.asarray(Image.open(io.BytesIO(picture)).convert("RGB"))


@contextmanager
def window() -> Iterator[Window]:
    """Debian's Chromium, with WebGL in software."""
    executable = shutil.which("chromium")
    assert executable, "Chromium is needed: scripts/apt-packages.sh installs it"
    flags = ["--no-sandbox", "--use-gl=angle", "--use-angle=swiftshader", "--enable-unsafe-swiftshader"]
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=executable, args=flags)
        found = Window(browser.new_page(viewport={"width": WIDTH, "height": HEIGHT}))
        found.page.on("request", lambda request: found.requests.append(request.url))
        found.page.on("pageerror", lambda error: found.complaints.append(f"script: {error}"))
        found.page.on(
            "console",
            lambda message: found.complaints.append(message.text) if message.type == "error" else None,
        )
        yield found
        browser.close()


def is_grey(pixels: NDArray[np.uint8]) -> NDArray[np.bool_]:
    """Tissue: neither black nor coloured."""
    spread = pixels.max(-1).astype(int) - pixels.min(-1)
    return (spread < 12) & (pixels.mean(-1) > 25)


def is_red(pixels: NDArray[np.uint8]) -> NDArray[np.bool_]:
    """Tissue below the colour of the class."""
    red, green, blue = (pixels[..., channel].astype(int) for channel in range(3))
    return (red - np.maximum(green, blue) > 40) & (np.abs(green - blue) < 25)


def test_a_volume_and_its_layer_are_seen_in_all_planes_by_who_has_the_link_alone(
    shown: tuple[Connection, str, str], tmp_path: Path
) -> None:
    with window() as seen:
        pixels = seen.show(link(shown), tmp_path / "whole.png")
        # The panel of x and y lies top left, below the bar.
        panel = pixels[80 : HEIGHT // 2 - 20, 40 : WIDTH // 2 - 40]
        assert (is_grey(panel) | is_red(panel)).mean() > 0.5
        assert panel[is_grey(panel)].std() > 10, "it is not of one grey"
        left, right = np.array_split(is_red(panel), 2, axis=1)
        assert left.mean() > 0.01
        assert right.mean() < 0.2 * left.mean(), "only the left half is labelled"

        near = seen.show(link(shown, position={"z": 40, "y": 300, "x": 200}), tmp_path / "near.png")
        state = seen.page.evaluate("viewer.state.toJSON()")
        assert [int(value) for value in state["position"]] == [200, 300, 40]
        quarters = {
            "xy": near[80 : HEIGHT // 2 - 20, 40 : WIDTH // 2 - 40],
            "xz": near[80 : HEIGHT // 2 - 20, WIDTH // 2 + 40 : -40],
            "yz": near[HEIGHT // 2 + 40 : -40, WIDTH // 2 + 40 : -40],
        }
        for plane, quarter in quarters.items():
            assert (is_grey(quarter) | is_red(quarter)).mean() > 0.2, plane
        assert is_red(quarters["xy"]).mean() > 0.01
    origin = urlsplit(shown[0].http_url).netloc
    assert {urlsplit(url).netloc for url in seen.requests if url.startswith("http")} == {origin}
    assert seen.complaints == []


def test_the_client_is_served_to_everybody_and_nothing_else_of_its_wheel_is(
    shown: tuple[Connection, str, str],
) -> None:
    with httpx.Client(base_url=shown[0].http_url) as web:
        entry = web.get("/neuroglancer/")
        assert (entry.status_code, entry.headers["location"]) == (307, "/neuroglancer/v/1/")
        page = web.get("/neuroglancer/v/1/")
        policy = page.headers["content-security-policy"]
        assert page.headers["content-type"].startswith("text/html")
        assert "unsafe-eval" not in policy.replace("wasm-unsafe-eval", "")
        assert "connect-src 'self';" in policy
        scripts = [part.split('"')[0] for part in page.text.split('src="')[1:]]
        for name in scripts:
            answer = web.get(f"/neuroglancer/v/1/{name}")
            assert answer.status_code == 200
            assert answer.headers["content-type"].startswith("text/javascript")
            etag = answer.headers["etag"]
            again = web.get(f"/neuroglancer/v/1/{name}", headers={"if-none-match": etag})
            assert (again.status_code, again.content) == (304, b"")
        assert "immutable" in web.get(f"/neuroglancer/v/1/{scripts[-1]}").headers["cache-control"]
        for path in ("../../__init__.py", "..%2f..%2f__init__.py", f"{scripts[-1]}.map", "none.js", ""):
            assert web.get(f"/neuroglancer/v/1/x/{path}").status_code == 404
            if path:
                assert web.get(f"/neuroglancer/v/1/{path}").status_code == 404, path
