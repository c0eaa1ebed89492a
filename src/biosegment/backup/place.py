"""Where a platform keeps its data, and where backups of it are kept."""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from pydantic import ValidationError

from biosegment.auth import SERVICES
from biosegment.errors import FailedPrecondition, InvalidArgument, NotFound
from biosegment.settings import ObjectStoreSettings, take_variable
from biosegment.storage.folder import folder_of_url
from biosegment.storage.objects import BlockingObjects, open_blocking_objects

_BACKUP: Final = "BIOSEGMENT_BACKUP__"
_SQLITE: Final = "sqlite+aiosqlite:///"


@dataclass(frozen=True, slots=True)
class Installation:
    """The stores of one platform.

    Attributes:
        databases: URL of each service's database.
        store: Its object storage.
        data_dir: Of an embedded platform, None when settings say where everything is.
    """

    databases: Mapping[str, str]
    store: ObjectStoreSettings
    data_dir: Path | None = None

    @classmethod
    def embedded(cls, data_dir: Path) -> Installation:
        """What `biosegment up --data DATA_DIR` uses."""
        data = data_dir.resolve()
        return cls(
            {service: f"{_SQLITE}{data / 'db' / service}.db" for service in SERVICES},
            ObjectStoreSettings(object_store_url=f"file://{data / 'objects'}"),
            data,
        )

    @classmethod
    def from_settings(cls, environment: Mapping[str, str] | None = None) -> Installation:
        """What the services' own variables say: `BIOSEGMENT_<SERVICE>__DATABASE_URL`, `BIOSEGMENT_OBJECT_STORE_URL`...

        Raises:
            InvalidArgument: BAD_SETTINGS.
        """
        environment = os.environ if environment is None else environment
        databases: dict[str, Any] = {}
        for service in SERVICES:
            take_variable(environment, f"BIOSEGMENT_{service.upper()}__DATABASE_URL", service, databases)
        if missing := sorted(set(SERVICES) - databases.keys()):
            names = ", ".join(f"BIOSEGMENT_{service.upper()}__DATABASE_URL" for service in missing)
            raise InvalidArgument("BAD_SETTINGS", f"not set: {names}; or name the folder of the data: --data")
        return cls(
            {service: _with_driver(url) for service, url in databases.items()},
            _store_settings({}, ("BIOSEGMENT_",), environment),
        )

    @classmethod
    def found(cls, data_dir: Path | None, default_data_dir: Path) -> Installation:
        """The folder that was named, else what the environment says, else the default folder."""
        if data_dir is None and any(_database_variables(os.environ)):
            return cls.from_settings()
        return cls.embedded(data_dir or default_data_dir)

    def require_present(self) -> None:
        """Raise NotFound NO_PLATFORM unless an embedded platform has run in the folder before."""
        missing = [path for path in self._files() if not path.is_file()]
        if missing:
            raise NotFound(
                "NO_PLATFORM", f"there is no data of a platform: {missing[0]} is missing; see --data"
            )

    def _files(self) -> list[Path]:
        urls = [url for url in self.databases.values() if url.startswith(_SQLITE)]
        return [Path(url.removeprefix(_SQLITE)) for url in urls]

    @contextlib.contextmanager
    def alone(self) -> Iterator[None]:
        """Keep `biosegment up` from starting on the folder meanwhile.

        Raises:
            FailedPrecondition: DATA_DIR_IN_USE, DATA_DIR_UNUSABLE.
        """
        if self.data_dir is None:
            yield
            return
        run = self.data_dir / "run"
        try:
            for folder in (run, self.data_dir / "db", self.data_dir / "objects"):
                folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            descriptor = os.open(run / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise FailedPrecondition(
                "DATA_DIR_UNUSABLE", f"cannot use the data folder {self.data_dir}: {error.strerror}"
            ) from error
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            yield
        except BlockingIOError as error:
            raise FailedPrecondition(
                "DATA_DIR_IN_USE",
                f"a platform runs on {self.data_dir}: stop it, or restore into another folder",
            ) from error
        finally:
            os.close(descriptor)


def open_target(
    place: str, environment: Mapping[str, str] | None = None, *, must_exist: bool
) -> BlockingObjects:
    """Open the folder or the `s3://bucket/prefix` of backups.

    The endpoint and the credentials of a bucket are those of the object storage, unless there are variables
    `BIOSEGMENT_BACKUP__S3_...` of its own.

    Args:
        place: As a person wrote it.
        environment: In place of the process's own.
        must_exist: Make no folder where there is none.

    Raises:
        InvalidArgument: BAD_SETTINGS, BAD_TARGET.
        NotFound: NO_BACKUP when the folder must be there and is not.
        Unavailable: OBJECT_STORE_UNAVAILABLE.
    """
    environment = os.environ if environment is None else environment
    is_url = place.startswith(("s3://", "file:///"))
    url = place if is_url else f"file://{Path(place).resolve()}"
    if url.startswith("file://"):
        settings = ObjectStoreSettings(object_store_url=url)
        _prepare_folder(folder_of_url(url), must_exist)
    else:
        settings = _store_settings({"object_store_url": url}, ("BIOSEGMENT_", _BACKUP), environment)
    return open_blocking_objects(settings)


def _prepare_folder(folder: Path, must_exist: bool) -> None:
    if must_exist and not folder.is_dir():
        raise NotFound("NO_BACKUP", f"there is no folder {folder}")
    try:
        # For its owner alone: everybody's data and the digests of their tokens are in it.
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise InvalidArgument("BAD_TARGET", f"cannot make the folder {folder}: {error.strerror}") from error


def _store_settings(
    given: dict[str, Any], prefixes: tuple[str, ...], environment: Mapping[str, str]
) -> ObjectStoreSettings:
    values: dict[str, Any] = {}
    for prefix in prefixes:
        for name in ObjectStoreSettings.model_fields:
            take_variable(environment, prefix + name.upper(), name, values)
    try:
        return ObjectStoreSettings.model_validate({**values, **given})
    except ValidationError as error:
        wrong = "; ".join(
            f"{'.'.join(map(str, item['loc'])).upper()}: {item['msg']}"
            for item in error.errors(include_input=False, include_url=False)
        )
        raise InvalidArgument("BAD_SETTINGS", f"settings of the object storage: {wrong}") from None


def _database_variables(environment: Mapping[str, str]) -> Iterator[str]:
    for service in SERVICES:
        name = f"BIOSEGMENT_{service.upper()}__DATABASE_URL"
        yield from (variable for variable in (name, f"{name}_FILE") if variable in environment)


def _with_driver(url: str) -> str:
    for prefix in ("postgresql://", "postgres://"):
        if url.startswith(prefix):
            return "postgresql+psycopg://" + url.removeprefix(prefix)
    return url
