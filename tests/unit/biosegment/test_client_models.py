"""Folders of bundles on their way to the platform."""

from __future__ import annotations

import zipfile

import pytest

from biosegment.client.models import _zipped
from biosegment.errors import InvalidArgument


def test_a_folder_is_sent_without_caches(tmp_path):
    for name in ("configs/metadata.json", ".git/config", "__pycache__/a.pyc"):
        (tmp_path / "b" / name).parent.mkdir(parents=True)
        (tmp_path / "b" / name).write_text("{}")
    (tmp_path / "b/.link").symlink_to("/etc/passwd")
    with zipfile.ZipFile(_zipped(tmp_path / "b", tmp_path / "z")) as archive:
        assert archive.namelist() == ["bundle/configs/metadata.json"]


@pytest.mark.parametrize("folder", [False, True])
def test_what_a_symbolic_link_leads_to_is_not_sent(tmp_path, folder):
    (tmp_path / "secret").mkdir()
    (tmp_path / "secret/key").write_text("secret")
    (tmp_path / "b/docs").mkdir(parents=True)
    (tmp_path / "b/docs/note").symlink_to(tmp_path / ("secret" if folder else "secret/key"))
    with pytest.raises(InvalidArgument, match=r"docs/note is a symbolic link; .*cp -rL"):
        _zipped(tmp_path / "b", tmp_path / "z")
