"""Users and API tokens."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Annotated

import typer

from biosegment.cli.argument import NameArgument, UserArgument
from biosegment.cli.output import JsonOption, show, show_list
from biosegment.client import connect

user = typer.Typer(no_args_is_help=True, help="Users.")
token = typer.Typer(no_args_is_help=True, help="API tokens.")


@user.command("create")
def create_user(
    user_id: UserArgument,
    display_name: Annotated[str, typer.Option("--name", help="For people.")] = "",
    admin: Annotated[bool, typer.Option(help="Platform administrator.")] = False,
    json: JsonOption = False,
) -> None:
    """Make a user; then make a token for them."""
    with connect() as client:
        show(client.platform.create_user(user_id, display_name=display_name, is_admin=admin), json)


@user.command("list")
def list_users(json: JsonOption = False) -> None:
    """List the users."""
    with connect() as client:
        show_list(client.platform.users(), ("name", "display_name", "is_admin"), json, "no users")


@token.command("create")
def create_token(
    user_id: Annotated[str, typer.Option("--user", help="For somebody else; administrators only.")] = "",
    name: Annotated[str, typer.Option(help="What it is for.")] = "",
    days: Annotated[float, typer.Option(help="Expires after so many days; never when 0.")] = 0,
    json: JsonOption = False,
) -> None:
    """Make an API token; its secret is shown once."""
    expire = datetime.now(UTC) + timedelta(days=days) if days else None
    with connect() as client:
        show(client.platform.create_token(user_id=user_id, display_name=name, expire_time=expire), json)


@token.command("list")
def list_tokens(
    user_id: Annotated[str, typer.Option("--user", help="Of somebody else.")] = "", json: JsonOption = False
) -> None:
    """List tokens, without their secrets."""
    with connect() as client:
        columns = ("name", "display_name", "create_time", "expire_time", "last_use_time")
        show_list(client.platform.tokens(user_id), columns, json, "no tokens")


@token.command("revoke")
def revoke_token(name: NameArgument) -> None:
    """End a token at once."""
    with connect() as client:
        client.platform.revoke_token(name)
