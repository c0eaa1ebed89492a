"""DM3 and DM4 files from the published description of their structure; knows nothing of our reader."""

from __future__ import annotations

import struct

import numpy as np

CODES = {"i2": 2, "i4": 3, "u2": 4, "u4": 5, "f4": 6, "f8": 7, "i1": 9, "u1": 10}
DATA_TYPES = {"i2": 1, "f4": 2, "u1": 6, "i4": 7, "i1": 9, "u2": 10, "u4": 11, "f8": 12}


class Writer:
    """Writes the published structure of DM3 and DM4, independently of the reader."""

    def __init__(self, version=3, order="<"):
        self.version, self.order = version, order

    def word(self, number):
        return struct.pack(">I" if self.version == 3 else ">Q", number)

    def entry(self, kind, name, content):
        length = b"" if self.version == 3 else struct.pack(">Q", len(content))
        return struct.pack(">BH", kind, len(name)) + name.encode() + length + content

    def group(self, *entries):
        return b"\1\0" + self.word(len(entries)) + b"".join(entries)

    def named_group(self, name, *entries):
        return self.entry(20, name, self.group(*entries))

    def value(self, name, info, data):
        words = b"".join(self.word(one) for one in info)
        return self.entry(21, name, b"%%%%" + self.word(len(info)) + words + data)

    def number(self, name, dtype, number):
        return self.value(name, [CODES[dtype]], np.array(number, self.order + dtype).tobytes())

    def text(self, name, text):
        encoded = text.encode("utf-16-le" if self.order == "<" else "utf-16-be")
        return self.value(name, [20, 4, len(text)], encoded)

    def array(self, name, data):
        stored = data.astype(data.dtype.newbyteorder(self.order))
        return self.value(name, [20, CODES[data.dtype.str[1:]], data.size], stored.tobytes())

    def image(self, data, calibrations=(), data_type=None):
        axes = [
            self.named_group("", self.number("Scale", "f4", scale), self.text("Units", unit))
            for scale, unit in calibrations
        ]
        content = (
            self.named_group("Calibrations", self.named_group("Dimension", *axes)),
            self.array("Data", data),
            self.number("DataType", "u4", data_type or DATA_TYPES[data.dtype.str[1:]]),
            self.named_group("Dimensions", *(self.number("", "u4", size) for size in reversed(data.shape))),
        )
        return self.named_group("", self.named_group("ImageData", *content))

    def write(self, path, *images, more=()):
        root = self.group(*more, self.named_group("ImageList", *images))
        flag = struct.pack(">I", 1 if self.order == "<" else 0)
        path.write_bytes(struct.pack(">I", self.version) + self.word(len(root)) + flag + root + bytes(8))
        return path


def thumbnails(writer):
    return writer.named_group("Thumbnails", writer.named_group("", writer.number("ImageIndex", "u4", 0)))
