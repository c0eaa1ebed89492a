"""Objects as files below one folder of a local or shared file system."""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from pathlib import Path
from urllib.parse import unquote, urlsplit

from biosegment.errors import BiosegmentError, InvalidArgument, NotFound, ResourceExhausted, Unavailable
from biosegment.ids import new_id
from biosegment.storage.key import check_key, check_prefix
from biosegment.storage.objects import Buffer

_INCOMING = ".incoming"
"""Files on their way in and trees on their way out; on the same file system as the rest, never listed."""

_WRITERS = 16
_STALE_S = 24 * 3600.0
_FULL = (errno.ENOSPC, errno.EDQUOT)
_NO_LINKS = (errno.EPERM, errno.EXDEV, errno.EMLINK, errno.ENOTSUP, errno.ENOSYS)
_ABSENT = (errno.ENOENT, errno.ENOTDIR, errno.EISDIR)

# The array engine writes `name.__lock` and renames it to `name`; a crash may leave one behind.
_ENGINE_LOCK = ".__lock"


class FolderObjects:
    """`BlockingObjects` on a folder; several processes may share it.

    A write goes to a file of its own in `.incoming`, is flushed to the disk and renamed into place; then the
    folders that changed are flushed. A crash leaves at most a stray file in `.incoming`, removed after a day.
    """

    def __init__(self, root: Path) -> None:
        self._root = root
        self._incoming = root / _INCOMING
        # Starts threads when they are needed. They wait for the disk, which flushes files together that wait together.
        self._writers = ThreadPoolExecutor(_WRITERS, thread_name_prefix="folder")
        with _mapped(f"folder {root}"):
            self._incoming.mkdir(parents=True, exist_ok=True)
            self._sweep()

    @classmethod
    def at_url(cls, url: str) -> FolderObjects:
        """Open `file:///absolute/folder`, making it when it is missing."""
        return cls(folder_of_url(url))

    def put(self, key: str, data: Buffer) -> None:
        target = self._path(key)
        with _mapped(key), self._staged(data) as staged:
            self._into_place(lambda: os.replace(staged, target), target)

    def put_many(self, items: Sequence[tuple[str, Buffer]]) -> None:
        if len(items) == 1:
            self.put(*items[0])
            return
        folders = {self._path(key).parent for key, _ in items}

        def place(item: tuple[str, Buffer]) -> None:
            key, data = item
            target = self._path(key)
            with _mapped(key), self._staged(data) as staged:
                self._into_place(lambda: os.replace(staged, target), target, flush=False)

        # The disk takes several files at a time; a name is durable when its folder is, once for all of them.
        futures = [self._writers.submit(place, item) for item in items]
        wait(futures)
        for future in futures:
            future.result()
        for folder in folders:
            with _mapped(folder.name):
                _flush_folder(folder)

    def put_if_absent(self, key: str, data: Buffer) -> bool:
        target = self._path(key)
        with _mapped(key), self._staged(data) as staged:
            try:
                self._into_place(lambda: os.link(staged, target), target)
            except FileExistsError:
                return False
        return True

    def get(self, key: str) -> bytes:
        with _mapped(key):
            return self._path(key).read_bytes()

    def get_range(self, key: str, start: int, stop: int) -> bytes:
        with _mapped(key), self._path(key).open("rb") as file:
            check_range(key, start, stop, os.fstat(file.fileno()).st_size)
            file.seek(start)
            return file.read(stop - start)

    def exists(self, key: str) -> bool:
        return self._path(key).is_file()

    def size(self, key: str) -> int:
        path = self._path(key)
        with _mapped(key):
            if path.is_dir():
                raise IsADirectoryError(errno.EISDIR, "is a folder")
            return path.stat().st_size

    def list(self, prefix: str) -> list[str]:
        check_prefix(prefix)
        keys = []
        with _mapped(prefix):
            for folder, folders, files in os.walk(self._root / prefix, onerror=_raise_unless_absent):
                folders[:] = [name for name in folders if not name.startswith(".")]
                base = Path(folder).relative_to(self._root)
                keys += [
                    (base / name).as_posix()
                    for name in files
                    if not name.startswith(".") and not name.endswith(_ENGINE_LOCK)
                ]
        return sorted(keys)

    def copy(self, source: str, target: str) -> None:
        origin, place = self._path(source), self._path(target)
        with _mapped(source), self._linked(origin) as staged:
            self._into_place(lambda: os.replace(staged, place), place)

    def delete(self, key: str) -> None:
        path = self._path(key)
        with _mapped(key), contextlib.suppress(FileNotFoundError, NotADirectoryError, IsADirectoryError):
            path.unlink()
            _flush_folder(path.parent)

    def delete_prefix(self, prefix: str) -> None:
        if not check_prefix(prefix):
            raise InvalidArgument("BAD_OBJECT_KEY", "refusing to delete the whole store: give a prefix")
        path = self._root / prefix
        trash = self._incoming / new_id()
        with _mapped(prefix):
            try:
                # One rename takes the whole tree out of sight, so that nobody sees half of it.
                os.rename(path, trash)
            except (FileNotFoundError, NotADirectoryError):
                return
            _flush_folder(path.parent)
            shutil.rmtree(trash, ignore_errors=True)

    def check(self) -> None:
        with _mapped(f"folder {self._root}"), self._staged(b"probe"):
            pass

    def close(self) -> None:
        self._writers.shutdown()

    def _path(self, key: str) -> Path:
        return self._root / check_key(key)

    @contextlib.contextmanager
    def _staged(self, data: Buffer) -> Iterator[Path]:
        path = self._incoming / new_id()
        try:
            descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666)
            try:
                rest = memoryview(data).cast("B") if len(data) else memoryview(b"")
                while rest:
                    rest = rest[os.write(descriptor, rest) :]
                os.fsync(descriptor)
            finally:
                os.close(descriptor)
            yield path
        finally:
            path.unlink(missing_ok=True)

    @contextlib.contextmanager
    def _linked(self, origin: Path) -> Iterator[Path]:
        """A second name of a file: writing an object makes a new file, so that neither changes with the other."""
        path = self._incoming / new_id()
        if origin.is_dir():
            raise IsADirectoryError(errno.EISDIR, "is a folder")
        try:
            try:
                os.link(origin, path)
            except OSError as error:
                if error.errno not in _NO_LINKS:
                    raise
                shutil.copyfile(origin, path)
                _flush_file(path)
            yield path
        finally:
            # Also when it was moved: moving one name of a file onto another one leaves both.
            path.unlink(missing_ok=True)

    def _into_place(self, step: Callable[[], None], target: Path, flush: bool = True) -> None:
        for attempt in range(3):
            try:
                _make_folder(target.parent)
                step()
            except FileNotFoundError:
                # `delete_prefix` moved the folder away between the two lines above.
                if attempt == 2:
                    raise
                continue
            except (IsADirectoryError, NotADirectoryError) as error:
                raise _taken(target.relative_to(self._root).as_posix()) from error
            break
        if flush:
            _flush_folder(target.parent)

    def _sweep(self) -> None:
        oldest = time.time() - _STALE_S
        for path in self._incoming.iterdir():
            with contextlib.suppress(OSError):
                if path.lstat().st_mtime < oldest:
                    shutil.rmtree(path) if path.is_dir() else path.unlink()


def folder_of_url(url: str) -> Path:
    """Path of `file:///absolute/folder`."""
    return Path(unquote(urlsplit(url).path))


def check_range(key: str, start: int, stop: int, size: int) -> None:
    """Raise InvalidArgument BAD_BYTE_RANGE unless `0 <= start < stop` and `start < size`."""
    if not 0 <= start < stop or start >= size:
        raise InvalidArgument(
            "BAD_BYTE_RANGE", f"bytes [{start}, {stop}) are not in object {key!r}, which has {size} bytes"
        )


def _taken(key: str) -> InvalidArgument:
    return InvalidArgument(
        "BAD_OBJECT_KEY",
        f"object key {key!r} cannot be written: it, or a part of its path, is already the other kind",
    )


def _make_folder(folder: Path) -> None:
    missing = []
    while not folder.is_dir():
        if folder.is_file():  # asked in one call: another thread may be making the folder right now
            raise NotADirectoryError(errno.ENOTDIR, "not a folder", str(folder))
        missing.append(folder)
        folder = folder.parent
    for path in reversed(missing):
        path.mkdir(exist_ok=True)
        _flush_folder(path.parent)


def _flush_file(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _flush_folder(folder: Path) -> None:
    try:
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    except FileNotFoundError:
        return  # removed by somebody else: there is nothing left to make durable
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _raise_unless_absent(error: OSError) -> None:
    if error.errno not in _ABSENT:
        raise error


@contextlib.contextmanager
def _mapped(what: str) -> Iterator[None]:
    try:
        yield
    except BiosegmentError:
        raise
    except OSError as error:
        if error.errno in _ABSENT:
            raise NotFound("OBJECT_NOT_FOUND", f"object {what!r} does not exist") from error
        if error.errno in _FULL:
            raise ResourceExhausted(
                "DISK_FULL",
                f"no space left while writing {what!r}; nothing was changed: free space and try again",
            ) from error
        raise Unavailable(
            "OBJECT_STORE_UNAVAILABLE", f"object storage failed at {what!r}: {error.strerror or error}"
        ) from error
