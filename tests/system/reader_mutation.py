"""Damage to sound files: what bad disks, broken copies and ill will do to them."""

from __future__ import annotations

import bz2
import gzip
import re
import shutil
import struct
import zipfile
from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from random import Random

_NUMBERS = (
    0,
    1,
    2,
    3,
    7,
    127,
    128,
    255,
    256,
    65535,
    2**20,
    2**31 - 1,
    2**31,
    2**32 - 1,
    2**40,
    2**62,
    2**63,
    2**64 - 1,
    -1,
)
_WORDS = (
    b"0",
    b"1",
    b"-1",
    b"1e9",
    b"4294967295",
    b"99999999999",
    b"1e308",
    b"nan",
    b"inf",
    b"",
    b"null",
    b"../../a",
    b"[]",
)
_FILLERS = (b"\0", b"\xff", b"\x80", b"[", b"%", b"A")
_FIELDS = ("B", "<H", ">H", "<I", ">I", "<Q", ">Q", "<f", "<d")


def mutate_tree(place: Path, random: Random, donor: bytes) -> Path:
    """Damage one file of a folder, or the file itself; metadata more often than voxels. Returns which."""
    # Next to a header lies its data.
    files = sorted(path for path in (place if place.is_dir() else place.parent).rglob("*") if path.is_file())
    described = [
        path for path in files if path.suffix in (".json", ".xml", ".nhdr", ".hdr") or path.name[0] in ".i"
    ]
    path = random.choice(described if described and random.random() < 0.7 else files)
    if random.random() < 0.02:
        path.unlink()
        return path
    path.write_bytes(mutate_file(path.read_bytes(), random, donor))
    return path


def mutate_file(data: bytes, random: Random, donor: bytes) -> bytes:
    """Damage a file, or, every other time, what is packed in it."""
    if random.random() < 0.5:
        inside = next((one for magic, one in _PACKED.items() if data.startswith(magic)), None)
        if inside is not None:
            return inside(data, random, donor)
    return mutate(data, random, donor)


def mutate(data: bytes, random: Random, donor: bytes) -> bytes:
    """One to four kinds of damage, one after the other."""
    for _ in range(random.choice((1, 1, 1, 1, 2, 4))):
        data = random.choice(_KINDS)(data, random, donor)
    return data


def _place(data: bytes, random: Random) -> int:
    """Beginnings and ends of files hold what matters most."""
    last = max(0, len(data) - 1)
    where = random.random()
    if where < 0.35:
        return random.randint(0, min(last, 400))
    if where < 0.6:
        return random.randint(0, min(last, 4096))
    return random.randint(max(0, last - 300), last) if where < 0.7 else random.randint(0, last)


def _flip(data: bytes, random: Random, donor: bytes) -> bytes:
    changed = bytearray(data)
    for _ in range(random.choice((1, 1, 2, 8, 64))):
        if changed:
            changed[_place(data, random)] ^= 1 << random.randrange(8)
    return bytes(changed)


def _truncate(data: bytes, random: Random, donor: bytes) -> bytes:
    return data[: _place(data, random)]


def _field(data: bytes, random: Random, donor: bytes) -> bytes:
    """A number in a header becomes another one."""
    code, changed = random.choice(_FIELDS), bytearray(data)
    size, number = struct.calcsize(code), random.choice(_NUMBERS)
    place = _place(data, random) // size * size
    if code[-1] in "fd":
        field = struct.pack(code, random.choice((0.0, -1.0, float("nan"), float("inf"), 1e30, 0.5)))
    else:
        field = (number % 2 ** (8 * size)).to_bytes(size, "big" if code[0] == ">" else "little")
    changed[place : place + size] = field
    return bytes(changed[: len(data)])


def _number(data: bytes, random: Random, donor: bytes) -> bytes:
    """A number in text becomes another one, or something else."""
    found = list(re.finditer(rb"-?\d+(?:\.\d+)?", data[:8192]))
    if not found:
        return _field(data, random, donor)
    one = random.choice(found)
    return data[: one.start()] + random.choice(_WORDS) + data[one.end() :]


def _splice(data: bytes, random: Random, donor: bytes) -> bytes:
    """A part of another file, or of another place of the same."""
    source = random.choice((data, donor))
    start, place = _place(source, random), _place(data, random)
    part = source[start : start + random.choice((1, 4, 16, 256, 5000))]
    return data[:place] + part + data[place + random.choice((0, len(part))) :]


def _remove(data: bytes, random: Random, donor: bytes) -> bytes:
    place = _place(data, random)
    return data[:place] + data[place + random.choice((1, 2, 4, 8, 100, 1000)) :]


def _fill(data: bytes, random: Random, donor: bytes) -> bytes:
    place, count = _place(data, random), random.choice((1, 8, 64, 512, 4096))
    return data[:place] + random.choice(_FILLERS) * count + data[place + count :]


def _in_stream(unpack: Callable[[bytes], bytes], pack: Callable[[bytes], bytes]) -> Callable[..., bytes]:
    return lambda data, random, donor: pack(mutate(unpack(data), random, donor))


def _in_archive(data: bytes, random: Random, donor: bytes) -> bytes:
    with zipfile.ZipFile(BytesIO(data)) as archive:
        members = {name: archive.read(name) for name in archive.namelist() if not name.endswith("/")}
    name, made = random.choice(sorted(members)), BytesIO()
    members[name] = mutate(members[name], random, donor)
    renamed = (
        random.choice((f"../{name}", f"/{name}", name * 30, "a\\b", " ")) if random.random() < 0.1 else name
    )
    with zipfile.ZipFile(made, "w", zipfile.ZIP_DEFLATED) as archive:
        for one, content in members.items():
            archive.writestr(renamed if one == name else one, content)
    return made.getvalue()


_KINDS = (_flip, _flip, _truncate, _field, _field, _number, _number, _splice, _remove, _fill)
_PACKED = {
    b"\x1f\x8b": _in_stream(gzip.decompress, gzip.compress),
    b"BZh": _in_stream(bz2.decompress, bz2.compress),
    b"PK\x03\x04": _in_archive,
}


def copy(place: Path, folder: Path) -> Path:
    """Copy a seed with everything beside it into an empty folder; returns the copy of what is imported."""
    shutil.copytree(place.parent, folder)
    return folder / place.name
