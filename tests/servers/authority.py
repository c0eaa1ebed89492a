"""Certificates of a lab's own authority, for tests."""

from __future__ import annotations

import os
from pathlib import Path

import trustme

from biosegment.rpc.tls import Certificate, MutualTls


class Authority:
    """A lab's own authority, which writes its certificates into a folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._ca = trustme.CA()
        self.file = folder / "ca.pem"
        self._ca.cert_pem.write_to_path(str(self.file))

    def certificate(self, *names: str, file: str = "") -> Certificate:
        made = self._ca.issue_cert(*names, common_name=names[0])
        chain, key = (self.folder / f"{file or names[0]}.{kind}" for kind in ("pem", "key"))
        chain.write_bytes(b"".join(part.bytes() for part in made.cert_chain_pems))
        made.private_key_pem.write_to_path(str(key))
        return Certificate(chain, key)

    def service(self, name: str) -> MutualTls:
        return MutualTls(self.certificate(name), self.file)


def touch(certificate: Certificate, steps: int = 1) -> None:
    """Files that are written twice within the clock's grain must differ too."""
    for path in (certificate.certificate_file, certificate.key_file):
        time_ns = path.stat().st_mtime_ns + steps * 1_000_000
        os.utime(path, ns=(time_ns, time_ns))
