"""Users and API tokens."""

from __future__ import annotations

import sys
from datetime import UTC, datetime, timedelta
from typing import Annotated

import typer

from biosegment.cli.argument import NameArgument, UserArgument, parse_moment
from biosegment.cli.output import JsonOption, notes, show, show_list
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


@user.command("update")
def update_user(
    user_id: UserArgument,
    display_name: Annotated[str | None, typer.Option("--name", help="For people.")] = None,
    admin: Annotated[bool | None, typer.Option("--admin/--no-admin", help="Platform administrator.")] = None,
    json: JsonOption = False,
) -> None:
    """Change a user's name, or whether they are an administrator."""
    with connect() as client:
        show(client.platform.update_user(user_id, display_name=display_name, is_admin=admin), json)


@user.command("disable")
def disable_user(user_id: UserArgument, json: JsonOption = False) -> None:
    """Let a user not sign in any more; their sessions end, what they made stays."""
    with connect() as client:
        show(client.platform.update_user(user_id, disabled=True), json)


@user.command("enable")
def enable_user(user_id: UserArgument, json: JsonOption = False) -> None:
    """Let a user sign in again."""
    with connect() as client:
        show(client.platform.update_user(user_id, disabled=False), json)


@user.command("password")
def set_password(
    user_id: Annotated[
        str, typer.Argument(help="Whose, for administrators; your own by default.", show_default=False)
    ] = "",
    stdin: Annotated[
        bool,
        typer.Option(
            "--stdin", help="Read it from standard input: the present one, if there is one, then the new one."
        ),
    ] = False,
) -> None:
    """Set a password to sign in with; all sessions of the user end."""
    with connect() as client:
        is_own = user_id in ("", client.platform.self().name.removeprefix("users/"))
        if stdin:
            lines = sys.stdin.read().splitlines()
            old, new = (lines[0], lines[1]) if len(lines) > 1 else ("", lines[0] if lines else "")
        else:
            old = (
                typer.prompt(
                    "Present password (empty for none)", "", hide_input=True, show_default=False, err=True
                )
                if is_own
                else ""
            )
            new = typer.prompt("New password", hide_input=True, confirmation_prompt=True, err=True)
        client.platform.set_password(new, old_password=old, user_id=user_id)
    notes.print("password set; sessions have ended")


@user.command("list")
def list_users(json: JsonOption = False) -> None:
    """List the users."""
    with connect() as client:
        show_list(client.platform.users(), ("name", "display_name", "is_admin", "disabled"), json, "no users")


@token.command("create")
def create_token(
    user_id: Annotated[str, typer.Option("--user", help="For somebody else; administrators only.")] = "",
    name: Annotated[str, typer.Option(help="What it is for.")] = "",
    days: Annotated[float, typer.Option(help="Expires after so many days; never when 0.")] = 0,
    expires: Annotated[
        str, typer.Option(help="Expires at an ISO time such as 2027-05-04, local unless it says otherwise.")
    ] = "",
    scope: Annotated[
        list[str] | None,
        typer.Option(
            help="What it may be used for at most: read, annotate, manage, admin, or of one project "
            "annotate:projects/PROJECT; repeatable.  [default: all that the user may do]",
            show_default=False,
        ),
    ] = None,
    json: JsonOption = False,
) -> None:
    """Make an API token; its secret is shown once."""
    expire = parse_moment(expires) or (datetime.now(UTC) + timedelta(days=days) if days else None)
    with connect() as client:
        made = client.platform.create_token(
            user_id=user_id, display_name=name, expire_time=expire, scopes=scope or ()
        )
        show(made, json)


@token.command("list")
def list_tokens(
    user_id: Annotated[str, typer.Option("--user", help="Of somebody else.")] = "", json: JsonOption = False
) -> None:
    """List tokens, without their secrets."""
    with connect() as client:
        columns = ("name", "display_name", "scopes", "create_time", "expire_time", "last_use_time")
        show_list(client.platform.tokens(user_id), columns, json, "no tokens")


@token.command("revoke")
def revoke_token(name: NameArgument) -> None:
    """End a token at once."""
    with connect() as client:
        client.platform.revoke_token(name)
