"""AmiraMesh files from the description of the format; knows nothing of our reader."""

from __future__ import annotations

import zlib
from collections.abc import Callable

from tests.unit.datastore.formats.reading import SHAPE

TYPES = {"u1": "byte", "i2": "short", "u2": "ushort", "i4": "int", "f4": "float"}
FIRST_LINES = {"<": "BINARY-LITTLE-ENDIAN 2.1", ">": "3D BINARY 2.0", "text": "3D ASCII 2.0"}
BOX = "BoundingBox " + " ".join(
    f"{low} {low + edge * (size - 1):.6f}" for low, edge, size in ((7, 4.6, 47), (-3, 5, 33), (0, 50, 7))
)
UNITS = 'Units { Coordinates "nm" }'


def runs(data: bytes) -> bytes:
    """HxByteRLE as the format's description has it: equal bytes as a count and a value, others as they are."""
    out, place = bytearray(), 0
    while place < len(data):
        same = 1
        while place + same < len(data) and same < 127 and data[place + same] == data[place]:
            same += 1
        if same > 2:
            out += bytes((same, data[place]))
            place += same
        else:
            plain = data[place : place + 9]
            out += bytes((128 + len(plain),)) + plain
            place += len(plain)
    return bytes(out)


PACKERS: dict[str, Callable[[bytes], bytes]] = {"": bytes, "HxByteRLE": runs, "HxZip": zlib.compress}


def write(path, *fields, order="<", codec="", parameters=f"{BOX},\n {UNITS}", shape=SHAPE):
    """Fields are arrays slowest first, samples last."""
    declared, data = "", b""
    for number, field in enumerate(fields, 1):
        samples = "" if field.ndim == 3 else f"[{field.shape[3]}]"
        if order == "text":
            packed = "\n".join(map(str, field.reshape(-1))).encode()
        else:
            packed = PACKERS[codec](field.astype(field.dtype.newbyteorder(order)).tobytes())
        how = f"({codec},{len(packed)})" if codec else ""
        declared += f"Lattice {{ {TYPES[field.dtype.str[1:]]}{samples} Data{number} }} @{number}{how}\n"
        data += f"@{number}\n".encode() + packed + b"\n"
    sizes = " ".join(map(str, shape[::-1]))
    head = f"# AmiraMesh {FIRST_LINES[order]}\n\ndefine Lattice {sizes}\n\n"
    head += f'Parameters {{\n {parameters},\n CoordType "uniform"\n}}\n\n'
    path.write_bytes(f"{head}{declared}\n# Data section follows\n".encode() + data)
    return path
