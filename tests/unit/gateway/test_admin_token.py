from __future__ import annotations

import os
import stat

import pytest
from biosegment_gateway.accounts.admin_token import ensure_admin, write_secret
from biosegment_gateway.accounts.authentication import Authentication

from biosegment.errors import FailedPrecondition


@pytest.fixture
def authentication(accounts):
    return Authentication(accounts, lifetime_s=0.0)


async def test_the_first_start_makes_an_administrator_and_a_token_for_its_owner_alone(
    accounts, authentication, tmp_path
):
    path = tmp_path / "data" / "token"
    old = os.umask(0)
    try:
        await ensure_admin(accounts, authentication, str(path))
    finally:
        os.umask(old)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    principal = await authentication.of_token(path.read_text().strip())
    assert (principal.user, principal.is_admin) == ("admin", True)
    assert [file.name for file in path.parent.iterdir()] == ["token"]


async def test_a_second_start_keeps_the_token(accounts, authentication, tmp_path):
    path = tmp_path / "token"
    await ensure_admin(accounts, authentication, str(path))
    before = path.read_text()
    path.chmod(0o644)
    await ensure_admin(accounts, authentication, str(path))
    assert path.read_text() == before
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert len(await accounts.list_tokens("admin")) == 1


@pytest.mark.parametrize("content", [None, b"", b"bsg_from_elsewhere", b"\xff\xfe"])
async def test_a_token_file_that_does_not_work_is_written_anew(accounts, authentication, tmp_path, content):
    path = tmp_path / "token"
    await ensure_admin(accounts, authentication, str(path))
    path.unlink()
    if content is not None:
        path.write_bytes(content)
    await ensure_admin(accounts, authentication, str(path))
    assert (await authentication.of_token(path.read_text().strip())).is_admin


async def test_without_a_file_there_is_no_token(accounts, authentication):
    await ensure_admin(accounts, authentication, "")
    assert await accounts.list_tokens("admin") == []


def test_a_place_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(FailedPrecondition, match="file/token"):
        write_secret(tmp_path / "file" / "token", "secret")


def test_a_link_is_replaced_and_not_followed(tmp_path):
    (tmp_path / "elsewhere").write_text("theirs")
    (tmp_path / "token").symlink_to(tmp_path / "elsewhere")
    write_secret(tmp_path / "token", "secret")
    assert (tmp_path / "elsewhere").read_text() == "theirs"
    assert (tmp_path / "token").read_text() == "secret\n"
