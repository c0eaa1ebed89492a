"""The web page, as people use it on a desk and on a phone, against the real platform."""

from __future__ import annotations

import io
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import tifffile
from numpy.typing import NDArray
from PIL import Image
from playwright.sync_api import Locator, Page, expect

from biosegment.client import Client
from biosegment.client.connection import connection_file
from biosegment.volume import FIRST_CLASS, Region
from tests.system.desk import Desk, desk_at
from tests.system.platform import Platform, running, until
from tests.system.tissue import Tissue, write_tissue

pytestmark = [pytest.mark.system, pytest.mark.timeout(580)]

SIZES = {"desk": (1280, 800), "phone": (360, 740)}


@dataclass(frozen=True, slots=True)
class Place:
    """A platform with a file to import.

    Attributes:
        origin: Address of the page.
        token: The administrator's.
        shots: Where pictures of the page go.
    """

    platform: Platform
    client: Client
    tissue: Tissue
    origin: str
    token: str
    shots: Path


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    folder = tmp_path_factory.mktemp("page")
    shots = folder / "shots"
    shots.mkdir()
    tissue = write_tissue(folder / "in", (16, 300, 280))
    with running(folder, import_root=folder / "in") as platform, platform.connect() as client:
        found = json.loads(connection_file(platform.data_dir).read_text())
        token = Path(found["token_file"]).read_text().strip()
        client.platform.create_user("ann", display_name="Ann")
        yield Place(platform, client, tissue, found["http"], token, shots)


@pytest.fixture(params=list(SIZES))
def desk(request: pytest.FixtureRequest, place: Place) -> Iterator[tuple[str, Desk]]:
    width, height = SIZES[request.param]
    with desk_at(place.origin, place.shots, width, height) as desk:
        yield request.param, desk


def test_the_whole_story(place: Place, desk: tuple[str, Desk], tmp_path: Path) -> None:
    size, window = desk
    story = Story(place, window, size)
    story.sign_in()
    story.make_project()
    story.import_volume()
    story.look_at_slices()
    story.annotate()
    story.export(tmp_path)
    story.cancel_a_training()
    story.add_a_member()
    story.see_progress()
    story.administer()
    story.sign_out()
    window.no_errors()


@dataclass(slots=True)
class Story:
    """One person's way through the page."""

    place: Place
    window: Desk
    size: str

    @property
    def page(self) -> Page:
        return self.window.page

    @property
    def project(self) -> str:
        return f"projects/{self.size}"

    def check(self, name: str) -> None:
        self.window.check(f"{self.size}-{name}")

    def button(self, name: str) -> Locator:
        return self.page.get_by_role("button", name=name, exact=True)

    def tab(self, name: str) -> None:
        self.page.get_by_role("navigation", name="Project").get_by_role("link", name=name).click()

    def sign_in(self) -> None:
        page = self.page
        self.window.expected.append("401")
        page.goto("/")
        expect(page.get_by_role("heading", name="Sign in")).to_be_visible()
        self.check("sign-in")
        summary = page.get_by_text("With an API token")
        if not page.get_by_label("API token", exact=True).is_visible():
            summary.click()
        page.get_by_label("API token", exact=True).fill("bsg_nobody_nothing")
        self.button("Sign in with the token").click()
        expect(page.get_by_role("alert")).to_contain_text("token")
        page.goto(f"/#token={self.place.token}")
        expect(page.get_by_role("heading", name="Projects")).to_be_visible()
        assert self.place.token not in page.url
        assert self.place.token not in page.evaluate(
            "JSON.stringify([localStorage, sessionStorage, document.cookie])"
        )

    def make_project(self) -> None:
        page = self.page
        page.keyboard.press("n")
        dialog = page.get_by_role("dialog")
        dialog.get_by_label("Name", exact=True).fill(f"Kidney on a {self.size}")
        dialog.get_by_label("Id", exact=True).fill(self.size)
        dialog.get_by_label("Working resolution").fill("8")
        self.button("Add a class").click()
        dialog.get_by_label("Name of class 2").fill("mitochondria")
        self.check("new-project")
        self.button("Make project").click()
        # What the server says: two classes of one name are refused, and nothing that was typed is lost.
        expect(dialog.get_by_role("alert")).to_contain_text("two classes have the same display_name")
        dialog.get_by_label("Name of class 2").fill("membrane")
        self.button("Make project").click()
        expect(page.get_by_role("heading", name=f"Kidney on a {self.size}")).to_be_visible()
        expect(page).to_have_url(re.compile(f"/{self.project}$"))
        self.window.expected.append("400")

    def import_volume(self) -> None:
        page = self.page
        page.keyboard.press("n")
        dialog = page.get_by_role("dialog")
        dialog.get_by_label("File", exact=True).set_input_files(self.place.tissue.path)
        dialog.get_by_label("Name", exact=True).fill("Block 1")
        dialog.get_by_label("Id", exact=True).fill("tissue")
        for axis, size in zip("zyx", (12, 8, 8), strict=True):
            dialog.get_by_label(axis, exact=True).fill(str(size))
        self.check("import")
        self.button("Send and import").click()
        card = page.get_by_role("link", name="Block 1")
        expect(card).to_be_visible()
        picture = card.locator("img")
        expect(picture).to_have_js_property("complete", True)
        assert picture.evaluate("image => image.naturalWidth") > 100
        expect(page.get_by_text("16 × 300 × 280 voxels")).to_be_visible()
        self.check("volumes")

    def look_at_slices(self) -> None:
        page = self.page
        page.get_by_role("link", name="Block 1").click()
        view = page.get_by_role("img", name="Slice z 8 of 16")
        expect(view).to_be_visible()
        middle = self.brightness()
        page.keyboard.press("ArrowRight")
        expect(page.get_by_role("img", name="Slice z 9 of 16")).to_be_visible()
        page.keyboard.press("Home")
        expect(page.get_by_role("img", name="Slice z 0 of 16")).to_be_visible()
        assert self.brightness() != middle
        page.get_by_role("img", name="Slice").hover()
        page.mouse.wheel(0, 120)
        expect(page.get_by_role("img", name="Slice z 1 of 16")).to_be_visible()
        page.keyboard.press("y")
        expect(page.get_by_role("img", name="Slice y 150 of 300")).to_be_visible()
        assert self.brightness() > 0
        page.keyboard.press("z")
        page.keyboard.press("+")
        assert self.brightness() > 0
        self.check("volume")

    def drawn(self) -> NDArray[np.int16]:
        """What the slice view shows, once all of it is there: (y, x, RGB)."""
        expect(self.page.locator("canvas[aria-busy=false]")).to_be_visible()
        picture = Image.open(io.BytesIO(self.page.locator("canvas").screenshot())).convert("RGB")
        return np.asarray(picture).astype(np.int16)

    def brightness(self) -> float:
        return float(self.drawn().mean())

    def annotate(self) -> None:
        """By the SDK, as napari does: the page's own annotator comes later. Its layer is seen over the volume."""
        client, page = self.place.client, self.page
        client.samples.configure(self.project, sample_shape=(1, 64, 64), manual_training=True)
        for sample in client.samples.claim(self.project, 4).samples:
            client.annotations.commit(
                self.place.tissue.labels(sample.region), sample=sample, work_time_s=20.0
            )
        whole = Region((8, 0, 0), (9, 300, 280))
        volume = f"{self.project}/volumes/tissue"
        client.annotations.commit(self.place.tissue.labels(whole), volume=volume, region=whole)
        until(self.annotations_are_seen, 240, "the annotations lie over the volume")
        self.check("layers")
        page.keyboard.press("l")
        expect(page.get_by_label(re.compile("Show layers"))).not_to_be_checked()
        assert self.coloured() == 0
        page.keyboard.press("l")
        page.get_by_role("link", name="Annotate").click()
        expect(page.get_by_role("heading", name="Annotate", exact=True)).to_be_visible()
        self.check("annotate")
        page.go_back()

    def annotations_are_seen(self) -> bool:
        """On the slice that is shown first; the layer follows its records after a moment."""
        page = self.page
        page.reload()
        self.drawn()
        layer = page.get_by_label(re.compile("annotations", re.I))
        if not layer.is_visible():
            return False
        layer.check()
        return self.coloured() > 1000

    def coloured(self) -> int:
        """Pixels that are not grey."""
        drawn = self.drawn()
        return int(np.count_nonzero(np.abs(drawn[..., 0] - drawn[..., 1]) > 20))

    def export(self, folder: Path) -> None:
        page = self.page
        self.button("Export").click()
        dialog = page.get_by_role("dialog")
        dialog.get_by_label("Format").select_option(label="TIFF")
        dialog.get_by_role("button", name="Export").click()
        expect(page.get_by_text("succeeded", exact=True)).to_be_visible()
        with page.expect_download() as started:
            page.get_by_role("listitem").get_by_role("link", name=re.compile(r"\.tiff?$")).click()
        started.value.save_as(folder / "segmentation.tif")
        made = tifffile.imread(folder / "segmentation.tif")
        assert made.shape == self.place.tissue.truth.shape
        assert set(np.unique(made)) <= {0, FIRST_CLASS}
        assert np.count_nonzero(made) > 0
        self.check("export")

    def cancel_a_training(self) -> None:
        page = self.page
        self.tab("Jobs")
        self.button("Train now").click()
        row = page.get_by_role("row").filter(has_text="training")
        expect(row.first).to_be_visible()
        self.check("jobs")
        expect(row.first.get_by_role("button", name=re.compile("^Cancel training"))).to_be_visible()
        row.first.get_by_role("link").click()
        expect(page.get_by_label("Log of the job")).to_contain_text("training", timeout=240_000)
        self.check("training")
        self.button("Cancel the job").click()
        expect(page.get_by_text("cancelled", exact=True)).to_be_visible()
        expect(self.button("Try again")).to_be_visible()

    def add_a_member(self) -> None:
        page = self.page
        self.tab("Members")
        self.button("Add a member").click()
        dialog = page.get_by_role("dialog")
        dialog.get_by_label("User id").fill("ann")
        dialog.get_by_label("Role").select_option("ROLE_ANNOTATOR")
        dialog.get_by_role("button", name="Add", exact=True).click()
        role = page.get_by_label("Role of ann")
        expect(role).to_have_value("ROLE_ANNOTATOR")
        role.select_option("ROLE_REVIEWER")
        expect(page.get_by_role("status")).to_contain_text("ann is now reviewer")
        roles = {one.name: one.role for one in self.place.client.projects.members(self.project)}
        assert roles[f"{self.project}/members/ann"] == "reviewer"
        self.check("members")
        self.button("Remove ann").click()
        page.get_by_role("dialog").get_by_role("button", name="Remove", exact=True).click()
        expect(role).to_have_count(0)

    def see_progress(self) -> None:
        page = self.page
        self.tab("Progress")
        expect(page.get_by_text("5, 5 of them new to the models")).to_be_visible()
        expect(page.get_by_role("img", name=re.compile("Annotated so far, in µm²"))).to_be_visible()
        self.check("progress")
        self.tab("Models")
        expect(page.get_by_text("No models yet")).to_be_visible()
        self.tab("Settings")
        page.get_by_label("Train after so many new annotations").fill("7")
        self.button("Save the settings").click()
        expect(page.get_by_role("status")).to_contain_text("changed")
        assert self.place.client.samples.pool(self.project).train_after_annotations == 7
        self.check("settings")

    def administer(self) -> None:
        page = self.page
        page.get_by_role("link", name="Administration").click()
        expect(page.get_by_role("cell", name="ann", exact=True)).to_be_visible()
        self.check("users")
        page.get_by_role("link", name="Services").click()
        expect(page.get_by_text("serving", exact=True)).to_have_count(4)
        page.get_by_role("link", name="Audit").click()
        expect(page.get_by_role("cell", name="CreateProject").first).to_be_visible()
        self.check("audit")
        page.keyboard.press("?")
        expect(page.get_by_role("dialog", name="Keyboard shortcuts")).to_be_visible()
        self.check("shortcuts")
        page.keyboard.press("Escape")
        expect(page.get_by_role("dialog")).to_have_count(0)

    def sign_out(self) -> None:
        page = self.page
        self.button("Sign out").click()
        expect(page.get_by_role("heading", name="Sign in")).to_be_visible()
        page.goto(f"/{self.project}/members")
        expect(page.get_by_role("heading", name="Sign in")).to_be_visible()


def test_a_lost_connection_is_said_and_recovered(place: Place, desk: tuple[str, Desk]) -> None:
    _, window = desk
    page = window.page
    page.goto(f"/#token={place.token}")
    expect(page.get_by_role("heading", name="Projects")).to_be_visible()
    window.context.set_offline(True)
    window.expected.append("ERR_INTERNET_DISCONNECTED")
    page.get_by_role("link", name="Administration").click()
    expect(page.get_by_role("alert")).to_contain_text("does not answer")
    window.context.set_offline(False)
    expect(page.get_by_role("cell", name="ann", exact=True)).to_be_visible()
    expect(page.get_by_role("alert")).to_have_count(0)
    window.no_errors()


def test_who_is_signed_out_meanwhile_signs_in_again_where_they_were(
    place: Place, desk: tuple[str, Desk]
) -> None:
    _, window = desk
    page = window.page
    # All that the page asks for by itself is answered before the session ends.
    with page.expect_response("**/DatastoreService/ListProjects"):
        page.goto(f"/#token={place.token}")
    expect(page.get_by_role("heading", name="Projects")).to_be_visible()
    window.context.clear_cookies()
    window.expected.append("401")
    page.get_by_role("link", name="Administration").click()
    dialog = page.get_by_role("dialog", name="Your session has ended")
    expect(dialog).to_be_visible()
    if not dialog.get_by_label("API token", exact=True).is_visible():
        dialog.get_by_text("With an API token").click()
    dialog.get_by_label("API token", exact=True).fill(place.token)
    dialog.get_by_role("button", name="Sign in with the token").click()
    expect(dialog).to_have_count(0)
    expect(page.get_by_role("heading", name="Administration")).to_be_visible()
    expect(page.get_by_role("cell", name="ann", exact=True)).to_be_visible()
    window.no_errors()


def test_the_page_is_readable_in_the_dark(place: Place) -> None:
    with desk_at(place.origin, place.shots, *SIZES["desk"], dark=True) as window:
        window.page.goto(f"/#token={place.token}")
        expect(window.page.get_by_role("heading", name="Projects")).to_be_visible()
        window.check("dark-projects")
        window.page.get_by_role("link", name="Administration").click()
        expect(window.page.get_by_role("cell", name="ann", exact=True)).to_be_visible()
        window.check("dark-users")
