"""What a link for viewers lets see, and until when."""

from __future__ import annotations

import base64
import json

import pytest
from biosegment_gateway.domain import User
from biosegment_gateway.sql import SqlAccounts
from biosegment_gateway.viewing.exhibit import Exhibit, Exhibition, Kind, Location, ShownLevel
from biosegment_gateway.viewing.link import ViewLinks
from biosegment_gateway.viewing.neuroglancer import state_fragment, viewer_state

from biosegment.auth import Kind as Caller
from biosegment.auth import Principal
from biosegment.errors import InvalidArgument, NotFound, Unauthenticated
from biosegment.volume import Index, VoxelSize

VOLUME = "projects/p/volumes/v"
ADA = Principal(Caller.USER, "ada")
NOW = 1_900_000_000.0


def exhibit(name: str, kind: Kind = Kind.IMAGE, channels: int = 1, class_value: int = 0) -> Exhibit:
    levels = (ShownLevel("0", Index(40, 300, 400), Index(1, 1, 1)),)
    source = Location("v", "1", True)
    window = None if kind.is_label else (10.0, 200.0)
    return Exhibit(
        name, name[-1], kind, "uint8", levels, VoxelSize(30, 8, 4), source, "1", window, class_value, channels
    )


class Shelf:
    """One volume with three layers, which only Ada sees."""

    async def volume(self, principal: Principal, name: str) -> Exhibit:
        if principal.user != "ada" or name != VOLUME:
            raise NotFound("VOLUME_NOT_FOUND", name)
        return exhibit(name)

    async def layer(self, principal: Principal, name: str, volume: Exhibit) -> Exhibit:
        found = {each.name: each for each in await self.layers(principal, volume)}
        if name not in found:
            raise NotFound("LAYER_NOT_FOUND", name)
        return found[name]

    async def layers(self, principal: Principal, volume: Exhibit) -> tuple[Exhibit, ...]:
        return (
            exhibit(f"{VOLUME}/layers/l", Kind.LABELS),
            exhibit(f"{VOLUME}/layers/p", Kind.PROBABILITIES, class_value=2),
            exhibit(f"{VOLUME}/layers/e", Kind.SCORE_MAP, channels=32),
        )

    async def colors(self, principal: Principal, project: str) -> dict[int, int]:
        return {2: 0xFF8000}


class Now:
    def __init__(self) -> None:
        self.time = NOW

    def __call__(self) -> float:
        return self.time


@pytest.fixture
def now() -> Now:
    return Now()


@pytest.fixture
def links(accounts: SqlAccounts, now: Now) -> ViewLinks:
    return ViewLinks(b"key", Exhibition(Shelf()), accounts, 86400, now)


async def test_a_link_says_what_it_shows_until_its_time_is_over(links: ViewLinks, now: Now):
    made, volume, layers = await links.make(ADA, VOLUME, ("l", f"{VOLUME}/layers/p", "l"), 600)
    assert (made.volume, made.layers, made.user_id, made.end) == (VOLUME, ("l", "p"), "ada", int(NOW) + 600)
    assert (volume.name, [layer.id for layer in layers]) == (VOLUME, ["l", "p"])
    assert links.read(links.text(made)) == made
    now.time += 599
    assert links.read(links.text(made)) == made
    now.time += 1
    with pytest.raises(Unauthenticated) as caught:
        links.read(links.text(made))
    assert caught.value.reason == "LINK_EXPIRED"


async def test_a_link_that_was_changed_or_made_elsewhere_is_none(
    links: ViewLinks, accounts: SqlAccounts, now: Now
):
    made, _, _ = await links.make(ADA, VOLUME, ("l",), 600)
    text = links.text(made)
    claims = base64.urlsafe_b64encode(json.dumps([VOLUME, ["l", "p"], "ada", made.end]).encode()).decode()
    other = ViewLinks(b"other key", Exhibition(Shelf()), accounts, 86400, now)
    body, signature = text.split(".")
    forged = [
        claims.rstrip("=") + "." + signature,
        body,
        body + ".",
        text[:-1],
        text + "A",
        "x",
        "x.y",
        "ä.ö",
    ]
    for wrong in (*forged, other.text(made), f"{body}.{other.text(made).split('.')[1]}", "a" * 5000):
        with pytest.raises(Unauthenticated) as caught:
            links.read(wrong)
        assert caught.value.reason == "BAD_LINK", wrong
    with pytest.raises(Unauthenticated) as caught:
        links.read("")
    assert caught.value.reason == "NO_TOKEN"


async def test_links_are_made_only_of_what_the_user_sees_and_viewers_can_show(links: ViewLinks):
    refused = {
        ("l", "p", "e"): "BAD_LAYER",  # many values for each voxel
        ("projects/q/volumes/v/layers/l",): "BAD_LAYER",
        tuple("abcdefghijklmnopq"): "TOO_MANY_LAYERS",
    }
    for layers, reason in refused.items():
        with pytest.raises(InvalidArgument) as caught:
            await links.make(ADA, VOLUME, layers, 600)
        assert caught.value.reason == reason
    for lifetime_s in (0, -1, 86401):
        with pytest.raises(InvalidArgument):
            await links.make(ADA, VOLUME, (), lifetime_s)
    with pytest.raises(NotFound):
        await links.make(ADA, VOLUME, ("none",), 600)
    with pytest.raises(NotFound):
        await links.make(Principal(Caller.USER, "eve"), VOLUME, (), 600)


async def test_a_link_acts_as_its_user_who_may_do_nothing_but_read_there(
    links: ViewLinks, accounts: SqlAccounts, clock
):
    await accounts.add_user(User("ada", "Ada", is_admin=True, disabled=False, create_time=clock()))
    await accounts.add_user(User("bob", "Bob", is_admin=False, disabled=True, create_time=clock()))
    made, _, _ = await links.make(ADA, VOLUME, (), 600)
    principal = await links.principal(made)
    assert (principal.user, principal.is_admin, principal.projects) == ("ada", True, frozenset("p"))
    assert not principal.is_whole
    for user_id in ("bob", "nobody"):
        with pytest.raises(Unauthenticated) as caught:
            await links.principal(type(made)(VOLUME, (), user_id, made.end))
        assert caught.value.reason == "USER_DISABLED"


async def test_neuroglancer_gets_the_window_the_colours_and_the_place():
    shelf = Shelf()
    volume = await shelf.volume(ADA, VOLUME)
    labels, amounts, _ = await shelf.layers(ADA, volume)
    state = viewer_state(
        "http://h/zarr/l/x/v.ome.zarr", volume, [labels, amounts], {2: 0xFF8000}, Index(3, 20, 10)
    )
    assert state["dimensions"] == {
        "x": [pytest.approx(4e-9), "m"],
        "y": [8e-9, "m"],
        "z": [pytest.approx(3e-8), "m"],
    }
    assert state["position"] == [10.5, 20.5, 3.5]
    image, segmentation, overlay = state["layers"]
    assert image["source"] == "http://h/zarr/l/x/v.ome.zarr/|zarr3:"
    assert image["shaderControls"]["normalized"]["range"] == [10, 200]
    assert segmentation["source"].endswith("v.ome.zarr/labels/l/|zarr3:")
    assert segmentation["segmentColors"] == {"2": "#ff8000"}
    assert overlay["source"].endswith("v.ome.zarr/images/p/|zarr3:")
    assert overlay["shaderControls"]["color"] == "#ff8000"
    fragment = state_fragment(state)
    assert fragment.startswith("!%7B%22dimensions%22")
    assert not set(fragment) & set(' "{}#<>')
