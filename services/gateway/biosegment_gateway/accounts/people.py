"""Everything about who may come in, built from the settings."""

from __future__ import annotations

from contextlib import AsyncExitStack
from dataclasses import dataclass

from biosegment.database import Database
from biosegment_gateway.accounts.authentication import Authentication
from biosegment_gateway.accounts.password import Passwords
from biosegment_gateway.accounts.provider import Provider
from biosegment_gateway.accounts.provider_sign_in import ProviderSignIn
from biosegment_gateway.accounts.provider_token import TokenCheck
from biosegment_gateway.accounts.provider_user import ProviderAccounts
from biosegment_gateway.accounts.session import Sessions
from biosegment_gateway.accounts.sign_in import SignIn
from biosegment_gateway.accounts.sql_sign_in import SqlPasswords, SqlProviderUsers, SqlSessions, SqlTries
from biosegment_gateway.accounts.tries import Tries
from biosegment_gateway.settings import GatewaySettings
from biosegment_gateway.sql import SqlAccounts


@dataclass(frozen=True, slots=True)
class People:
    """Users, how they prove who they are, and how they sign in."""

    accounts: SqlAccounts
    authentication: Authentication
    passwords: Passwords
    sessions: Sessions
    sign_in: SignIn
    provider: ProviderSignIn | None


def open_people(settings: GatewaySettings, database: Database, stack: AsyncExitStack) -> People:
    """Build them; what has to be closed is left to `stack`."""
    accounts = SqlAccounts(database)
    password_rows = SqlPasswords(database)
    sessions = Sessions(
        SqlSessions(database), idle_s=settings.session_idle_s, lifetime_s=settings.session_lifetime_s
    )
    links = SqlProviderUsers(database)
    provider, users = None, None
    if settings.oidc_issuer:
        asked = Provider(settings)
        stack.push_async_callback(asked.close)
        check = TokenCheck(asked, settings.oidc_audiences)
        users = ProviderAccounts(settings, check, accounts, links, password_rows)
        key = ProviderSignIn.key_of(settings.signing_key_file)
        provider = ProviderSignIn(settings, asked, check, users, key)
    authentication = Authentication(accounts, sessions=sessions, provider=users)
    passwords = Passwords(password_rows, Tries(SqlTries(database)))
    stack.callback(passwords.close)
    takes_passwords = settings.password_sign_in == "on"
    sign_in = SignIn(
        accounts, authentication, sessions, passwords, links, provider, takes_passwords=takes_passwords
    )
    return People(accounts, authentication, passwords, sessions, sign_in, provider)
