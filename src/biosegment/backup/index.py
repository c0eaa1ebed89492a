"""What a backup knows of objects while it runs, on disk: an installation may have many millions of them."""

from __future__ import annotations

import sqlite3
import tempfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Final

_SCHEMA: Final = """
PRAGMA journal_mode=OFF;
PRAGMA synchronous=OFF;
CREATE TABLE wanted (
    key TEXT PRIMARY KEY, immutable INTEGER, check_kind TEXT, check_value TEXT, sha256 TEXT, size INTEGER
) WITHOUT ROWID;
CREATE TABLE known (key TEXT PRIMARY KEY, sha256 TEXT, size INTEGER) WITHOUT ROWID;
CREATE TABLE stored (sha256 TEXT PRIMARY KEY) WITHOUT ROWID;
"""
_AT_ONCE: Final = 500


@dataclass(frozen=True, slots=True)
class Wanted:
    """An object that a snapshot needs.

    Attributes:
        key: In the platform's object storage.
        is_immutable: Its content never changes, so that an earlier backup's checksum holds.
        check_kind: What its row says of the content: '' for nothing, `sha256`, or `labels` for a label block.
        check_value: SHA-256 in hexadecimal.
        known_sha256: Of the last backup of the same key, '' when there is none.
        known_size: Likewise, in bytes.
    """

    key: str
    is_immutable: bool
    check_kind: str = ""
    check_value: str = ""
    known_sha256: str = ""
    known_size: int = -1


@dataclass(frozen=True, slots=True)
class Stored:
    """An object in a target; `sha256` is '' when the object storage did not have it."""

    key: str
    sha256: str
    size: int


class Index:
    """Objects that are wanted, that an earlier snapshot has, and whose content is in the target; for one thread."""

    def __init__(self) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="biosegment-backup-")
        self._connection = sqlite3.connect(Path(self._folder.name) / "index.db", isolation_level=None)
        self._connection.executescript(_SCHEMA)

    def __enter__(self) -> Index:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._connection.close()
        self._folder.cleanup()

    def want(self, items: Iterable[Wanted]) -> None:
        """Add objects; one that is wanted already stays as it is."""
        self._many(
            "INSERT OR IGNORE INTO wanted VALUES (?, ?, ?, ?, NULL, NULL)",
            ((item.key, item.is_immutable, item.check_kind, item.check_value) for item in items),
        )

    def forget(self, prefix: str) -> None:
        """Take back what is wanted below a prefix."""
        self._connection.execute("DELETE FROM wanted WHERE key >= ? AND key < ?", (prefix, prefix + "\x7f"))

    def know(self, items: Iterable[Stored]) -> None:
        """Say what the newest snapshot has."""
        self._many(
            "INSERT OR REPLACE INTO known VALUES (?, ?, ?)", ((i.key, i.sha256, i.size) for i in items)
        )

    def store(self, digests: Iterable[str]) -> None:
        """Say whose content is in the target."""
        self._many("INSERT OR IGNORE INTO stored VALUES (?)", ((digest,) for digest in digests))

    def is_stored(self, sha256: str) -> bool:
        """Whether the target has this content."""
        found = self._connection.execute("SELECT 1 FROM stored WHERE sha256 = ?", (sha256,))
        return found.fetchone() is not None

    def count(self) -> int:
        """Objects that are wanted."""
        return int(self._connection.execute("SELECT count(*) FROM wanted").fetchone()[0])

    def batches(self) -> Iterator[list[Wanted]]:
        """Wanted objects by key, some at a time; `done` may be called in between."""
        last = ""
        while True:
            # Known content counts only while the target has it.
            rows = self._connection.execute(
                "SELECT w.key, w.immutable, w.check_kind, w.check_value, coalesce(s.sha256, ''), coalesce(k.size, -1) "
                "FROM wanted w LEFT JOIN known k ON k.key = w.key LEFT JOIN stored s ON s.sha256 = k.sha256 "
                "WHERE w.key > ? ORDER BY w.key LIMIT ?",
                (last, _AT_ONCE),
            ).fetchall()
            if not rows:
                return
            yield [Wanted(row[0], bool(row[1]), *row[2:]) for row in rows]
            last = rows[-1][0]

    def done(self, items: Iterable[Stored]) -> None:
        """Say what became of wanted objects."""
        self._many(
            "UPDATE wanted SET sha256 = ?, size = ? WHERE key = ?", ((i.sha256, i.size, i.key) for i in items)
        )

    def results(self) -> Iterator[Stored]:
        """Wanted objects that were found, by key."""
        query = "SELECT key, sha256, size FROM wanted WHERE sha256 <> '' ORDER BY key"
        for row in self._connection.execute(query):
            yield Stored(*row)

    def missing(self) -> Iterator[str]:
        """Keys of wanted objects that were not found."""
        for (key,) in self._connection.execute("SELECT key FROM wanted WHERE sha256 = '' ORDER BY key"):
            yield key

    def _many(self, statement: str, rows: Iterable[tuple[object, ...]]) -> None:
        self._connection.execute("BEGIN")
        try:
            self._connection.executemany(statement, rows)
        finally:
            # Also of rows whose source failed: what came before is right.
            self._connection.execute("COMMIT")
