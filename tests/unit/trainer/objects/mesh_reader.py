"""Readers of mesh files that know nothing of the writers, and what a closed surface must be like."""

from __future__ import annotations

import json
import struct
from collections import Counter
from typing import Any

import numpy as np


def read_stl(data: bytes) -> tuple[Any, Any, Any]:
    """Corners (m, 3, 3), and the normals that the file says; every byte is used."""
    (count,) = struct.unpack_from("<I", data, 80)
    assert len(data) == 84 + 50 * count
    assert not data.startswith(b"solid")
    corners, normals = [], []
    for i in range(count):
        *values, attributes = struct.unpack_from("<12fH", data, 84 + 50 * i)
        assert attributes == 0
        normals.append(values[:3])
        corners.append(np.reshape(values[3:], (3, 3)))
    places, faces = np.unique(np.reshape(corners, (-1, 3)), axis=0, return_inverse=True)
    return places, faces.reshape(-1, 3), np.array(normals)


def read_ply(data: bytes) -> tuple[Any, Any]:
    head, _, body = data.partition(b"end_header\n")
    lines = head.decode("ascii").splitlines()
    assert lines[:2] == ["ply", "format binary_little_endian 1.0"]
    counts = {line.split()[1]: int(line.split()[2]) for line in lines if line.startswith("element")}
    assert [line for line in lines if line.startswith("property")] == [
        "property float x",
        "property float y",
        "property float z",
        "property list uchar int vertex_indices",
    ]
    places = [struct.unpack_from("<3f", body, 12 * i) for i in range(counts["vertex"])]
    begin, faces = 12 * counts["vertex"], []
    for i in range(counts["face"]):
        corners, *face = struct.unpack_from("<B3i", body, begin + 13 * i)
        assert corners == 3
        faces.append(face)
    assert len(body) == begin + 13 * counts["face"]
    return np.array(places), np.array(faces)


def read_glb(data: bytes) -> tuple[Any, Any]:
    magic, version, length = struct.unpack_from("<4sII", data)
    assert (magic, version, length) == (b"glTF", 2, len(data))
    size, kind = struct.unpack_from("<I4s", data, 12)
    assert kind == b"JSON"
    assert size % 4 == 0
    content = json.loads(data[20 : 20 + size])
    binary_size, kind = struct.unpack_from("<I4s", data, 20 + size)
    assert kind == b"BIN\0"
    binary = data[28 + size :]
    assert len(binary) == binary_size == content["buffers"][0]["byteLength"]
    assert content["asset"]["version"] == "2.0"
    node = content["nodes"][content["scenes"][content["scene"]]["nodes"][0]]
    (primitive,) = content["meshes"][node["mesh"]]["primitives"]
    assert primitive["mode"] == 4

    def values(number: int, kind: str, wanted: int, width: int) -> Any:
        accessor = content["accessors"][number]
        view = content["bufferViews"][accessor["bufferView"]]
        assert accessor["componentType"] == wanted
        assert view["byteLength"] == 4 * width * accessor["count"]
        numbers = struct.unpack_from(f"<{width * accessor['count']}{kind}", binary, view["byteOffset"])
        found = np.reshape(numbers, (-1, width))
        if "min" in accessor:
            np.testing.assert_array_equal(accessor["min"], found.min(0))
            np.testing.assert_array_equal(accessor["max"], found.max(0))
        return found

    places = values(primitive["attributes"]["POSITION"], "f", 5126, 3)
    return places, values(primitive["indices"], "I", 5125, 1).reshape(-1, 3)


def read_precomputed(files: dict[str, bytes], object_id: int) -> tuple[Any, Any]:
    """From a folder's files, by the names that the format prescribes."""
    assert json.loads(files["info"]) == {"@type": "neuroglancer_legacy_mesh"}
    places, faces = np.zeros((0, 3)), np.zeros((0, 3), int)
    for name in json.loads(files[f"{object_id}:0"])["fragments"]:
        data = files[name]
        (count,) = struct.unpack_from("<I", data)
        numbers = struct.unpack_from(f"<{3 * count}f", data, 4)
        corners = struct.unpack_from(f"<{(len(data) - 4 - 12 * count) // 4}I", data, 4 + 12 * count)
        faces = np.concatenate([faces, np.reshape(corners, (-1, 3)) + len(places)])
        places = np.concatenate([places, np.reshape(numbers, (-1, 3))])
    return places, faces


def signed_volume(places: Any, faces: Any) -> float:
    """Positive when the triangles look outwards."""
    a, b, c = (places[faces[:, i]].astype(np.float64) for i in range(3))
    return float((a * np.cross(b, c)).sum() / 6)


def require_closed(faces: Any) -> None:
    """Every edge is shared by two triangles, which go along it in opposite directions."""
    directed = Counter((int(f[i]), int(f[i - 1])) for f in faces for i in range(3))
    assert set(directed.values()) == {1}
    assert all((b, a) in directed for a, b in directed)


def euler_characteristic(faces: Any) -> int:
    """Vertices - edges + triangles: 2 for each closed surface without handles."""
    edges = {frozenset((int(f[i]), int(f[i - 1]))) for f in faces for i in range(3)}
    return len(np.unique(faces)) - len(edges) + len(faces)
