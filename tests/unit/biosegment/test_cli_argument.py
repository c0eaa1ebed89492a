from __future__ import annotations

import json
from pathlib import Path

import pytest

from biosegment.cli.argument import parse_region, parse_voxel_size, volume_name
from biosegment.cli.output import to_plain
from biosegment.client.connection import Connection, connection_file, find_connection
from biosegment.errors import FailedPrecondition, InvalidArgument, Unauthenticated
from biosegment.volume import Region, VoxelSize


def test_a_region_is_read_in_zyx_order() -> None:
    assert parse_region("1:2,3:40,5:60") == Region((1, 3, 5), (2, 40, 60))
    assert parse_region("") is None
    # As tables show it.
    assert parse_region(str(Region((1, 3, 5), (2, 40, 60)))) == Region((1, 3, 5), (2, 40, 60))


@pytest.mark.parametrize("text", ["1:2,3:4", "1:2,3:4,5", "a:b,c:d,e:f", "1:2:3,1:2,1:2", "5:2,0:1,0:1"])
def test_a_malformed_region_is_refused_with_its_text(text: str) -> None:
    with pytest.raises(InvalidArgument) as caught:
        parse_region(text)
    assert caught.value.reason == "BAD_REGION"


def test_one_number_is_a_cubic_voxel() -> None:
    assert parse_voxel_size("5") == VoxelSize(5, 5, 5)
    assert parse_voxel_size("50,4.6,4.6") == VoxelSize(50, 4.6, 4.6)


@pytest.mark.parametrize("text", ["5,5", "a", "0", "-1,2,3"])
def test_a_voxel_size_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(InvalidArgument):
        parse_voxel_size(text)


def test_a_volume_id_needs_a_project() -> None:
    assert volume_name("v", "p") == "projects/p/volumes/v"
    assert volume_name("projects/a/volumes/b", "") == "projects/a/volumes/b"
    with pytest.raises(InvalidArgument, match="--project"):
        volume_name("v", "")


def test_values_become_plain_json() -> None:
    plain = to_plain({"region": Region((0, 0, 0), (1, 2, 3)), "size": VoxelSize(1, 2, 3)})
    assert json.loads(json.dumps(plain))["region"] == {"start": [0, 0, 0], "stop": [1, 2, 3]}


def test_the_platform_on_this_machine_is_found_in_its_data_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("BIOSEGMENT_ADDRESS", "BIOSEGMENT_TOKEN", "BIOSEGMENT_HTTP_URL"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(FailedPrecondition, match="biosegment up"):
        find_connection(data_dir=tmp_path)
    path = connection_file(tmp_path)
    path.parent.mkdir()
    (tmp_path / "token").write_text("bsg_a_b\n")
    path.write_text(
        json.dumps({"grpc": "127.0.0.1:1", "http": "http://x", "token_file": str(tmp_path / "token")})
    )
    assert find_connection(data_dir=tmp_path) == Connection("127.0.0.1:1", "bsg_a_b", "http://x")


def test_the_environment_wins_over_the_data_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BIOSEGMENT_ADDRESS", "lab:7310")
    monkeypatch.delenv("BIOSEGMENT_TOKEN", raising=False)
    with pytest.raises(Unauthenticated, match="BIOSEGMENT_TOKEN"):
        find_connection(data_dir=tmp_path)
    monkeypatch.setenv("BIOSEGMENT_TOKEN", "t")
    assert find_connection(data_dir=tmp_path).address == "lab:7310"
