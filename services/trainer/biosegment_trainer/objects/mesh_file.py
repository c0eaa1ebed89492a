"""Meshes as files. Positions are x, y, z in nm in all of them."""

from __future__ import annotations

import json
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from biosegment_trainer.objects.mesh import Mesh
from biosegment_trainer.request import MeshFormat

PRECOMPUTED_INFO: Final = json.dumps({"@type": "neuroglancer_legacy_mesh"}).encode()
"""The file `info` of a folder of meshes for Neuroglancer."""
_ASSET: Final = {"version": "2.0", "generator": "BioSegment", "extras": {"unit": "nanometer"}}


def mesh_files(mesh: Mesh, object_id: int, mesh_format: MeshFormat) -> list[tuple[str, bytes]]:
    """The files of one object, by their path."""
    match mesh_format:
        case MeshFormat.STL:
            return [(f"stl/{object_id}.stl", stl(mesh))]
        case MeshFormat.PLY:
            return [(f"ply/{object_id}.ply", ply(mesh))]
        case MeshFormat.GLB:
            return [(f"glb/{object_id}.glb", glb(mesh))]
        case MeshFormat.PRECOMPUTED:
            fragment = f"{object_id}:0:mesh"
            manifest = json.dumps({"fragments": [fragment]}).encode()
            folder = MeshFormat.PRECOMPUTED.value
            return [(f"{folder}/{object_id}:0", manifest), (f"{folder}/{fragment}", precomputed(mesh))]


def stl(mesh: Mesh) -> bytes:
    """Binary STL: 80 bytes, the number of triangles, then normal, corners and two bytes of each."""
    corners = mesh.vertices[mesh.faces]
    triangles = np.zeros(
        len(corners), [("normal", "<f4", 3), ("corners", "<f4", (3, 3)), ("attributes", "<u2")]
    )
    triangles["normal"] = _normals(corners)
    triangles["corners"] = corners
    return b"BioSegment, nm".ljust(80) + len(corners).to_bytes(4, "little") + triangles.tobytes()


def ply(mesh: Mesh) -> bytes:
    """Binary little-endian PLY."""
    header = (
        "ply\nformat binary_little_endian 1.0\ncomment BioSegment, nm\n"
        f"element vertex {len(mesh.vertices)}\nproperty float x\nproperty float y\nproperty float z\n"
        f"element face {len(mesh.faces)}\nproperty list uchar int vertex_indices\nend_header\n"
    )
    faces = np.zeros(len(mesh.faces), [("count", "u1"), ("corners", "<i4", 3)])
    faces["count"], faces["corners"] = 3, mesh.faces
    return header.encode() + mesh.vertices.astype("<f4").tobytes() + faces.tobytes()


def glb(mesh: Mesh) -> bytes:
    """Binary glTF 2.0. Its numbers are nm, although glTF's unit is the metre: `asset.extras` says so."""
    vertices, faces = mesh.vertices.astype("<f4"), mesh.faces.astype("<u4")
    content: dict[str, Any] = {
        "asset": _ASSET,
        "scene": 0,
        "scenes": [{"nodes": [0]}],
        "nodes": [{"mesh": 0}],
        "meshes": [{"primitives": [{"attributes": {"POSITION": 0}, "indices": 1, "mode": 4}]}],
        "buffers": [{"byteLength": vertices.nbytes + faces.nbytes}],
        "bufferViews": [
            {"buffer": 0, "byteOffset": 0, "byteLength": vertices.nbytes, "target": 34962},
            {"buffer": 0, "byteOffset": vertices.nbytes, "byteLength": faces.nbytes, "target": 34963},
        ],
        "accessors": [
            {
                "bufferView": 0,
                "componentType": 5126,
                "count": len(vertices),
                "type": "VEC3",
                "min": vertices.min(0).tolist(),
                "max": vertices.max(0).tolist(),
            },
            {"bufferView": 1, "componentType": 5125, "count": faces.size, "type": "SCALAR"},
        ],
    }
    text = json.dumps(content, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 4)
    binary = vertices.tobytes() + faces.tobytes()  # whole numbers of four bytes
    chunks = _chunk(b"JSON", text) + _chunk(b"BIN\0", binary)
    return b"glTF" + (2).to_bytes(4, "little") + (12 + len(chunks)).to_bytes(4, "little") + chunks


def precomputed(mesh: Mesh) -> bytes:
    """A fragment of Neuroglancer's legacy format: number of vertices, vertices, triangles."""
    count = len(mesh.vertices).to_bytes(4, "little")
    return count + mesh.vertices.astype("<f4").tobytes() + mesh.faces.astype("<u4").tobytes()


def _chunk(kind: bytes, data: bytes) -> bytes:
    return len(data).to_bytes(4, "little") + kind + data


def _normals(corners: NDArray[np.float32]) -> NDArray[np.float64]:
    """(m, 3) unit vectors that point outwards."""
    wide = corners.astype(np.float64)
    across = np.cross(wide[:, 1] - wide[:, 0], wide[:, 2] - wide[:, 0])
    lengths = np.linalg.norm(across, axis=1, keepdims=True)
    return across / np.where(lengths, lengths, 1)
