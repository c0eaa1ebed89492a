"""`biosegment sample configure`, against a real sampler."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from typer.testing import CliRunner

from biosegment.auth import Kind, Principal
from biosegment.cli import app
from biosegment.errors import BiosegmentError, InvalidArgument
from tests.rpc.sampler.conftest import Platform


@pytest.fixture
def configure(platform: Platform) -> Any:
    """Runs the command as a manager. The server's log goes where the command prints, so that nobody reads that."""
    token = platform.credentials.token(Principal(Kind.USER, "mia"))
    environment = {"BIOSEGMENT_ADDRESS": platform.address, "BIOSEGMENT_TOKEN": token}

    async def run(*options: str) -> None:
        command = ["sample", "configure", "-p", "p1", "--json", *options]
        done = await asyncio.to_thread(CliRunner().invoke, app, command, env=environment)
        if isinstance(done.exception, BiosegmentError):
            raise done.exception
        assert done.exit_code == 0, done.output

    return run


async def test_where_samples_come_from_and_what_they_look_like_is_set_and_set_back(
    platform: Platform, configure: Any
) -> None:
    platform.records.volumes["v2"] = (10, 64, 64)
    volumes = ("--volume", "v2", "--volume", "projects/p1/volumes/v1")
    excluded = ("--exclude", "v2/0:5,0:64,0:64", "--exclude", "projects/p1/volumes/v1/[0:1,0:8,0:8]")
    await configure(*volumes, *excluded, "--sample-shape", "2,32,64", "--slice-distance", "6")
    pool = await platform.pool()
    assert list(pool.volumes) == ["projects/p1/volumes/v2", "projects/p1/volumes/v1"]
    assert [part.volume for part in pool.excluded] == ["projects/p1/volumes/v2", "projects/p1/volumes/v1"]
    assert [(part.region.start.z, part.region.stop.x) for part in pool.excluded] == [(0, 64), (0, 8)]
    assert (pool.sample_shape.z, pool.sample_shape.y, pool.sample_shape.x) == (2, 32, 64)
    assert (pool.slice_distance, pool.seed) == (6, 0)
    await configure("--seed", "7")
    pool = await platform.pool()
    assert (pool.seed, pool.slice_distance, len(pool.excluded)) == (7, 6, 2)
    back = ("--volume", "all", "--exclude", "nothing", "--sample-shape", "default", "--slice-distance", "0")
    await configure(*back)
    pool = await platform.pool()
    assert not pool.volumes
    assert not pool.excluded
    assert not pool.HasField("sample_shape")
    assert (pool.slice_distance, pool.seed) == (4, 7)


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        (("--volume", "none"), "UNKNOWN_VOLUME"),
        (("--exclude", "v1"), "BAD_REGION"),
        (("--exclude", "v1/0:1,0:8"), "BAD_REGION"),
        (("--exclude", "v1/0:1,0:8,0:9000"), "REGION_OUT_OF_BOUNDS"),
        (("--sample-shape", "128,128"), "BAD_SAMPLE_SHAPE"),
        (("--sample-shape", "0,128,128"), "BAD_SAMPLE_SHAPE"),
        (("--slice-distance", "-1"), "BAD_SLICE_DISTANCE"),
    ],
)
async def test_what_makes_no_sense_is_refused_and_changes_nothing(
    platform: Platform, configure: Any, options: tuple[str, ...], reason: str
) -> None:
    before = await platform.pool()
    with pytest.raises(InvalidArgument) as caught:
        await configure(*options)
    assert caught.value.reason == reason
    assert await platform.pool() == before
