"""Signing in: from a password or an API token to a session."""

from __future__ import annotations

from biosegment.errors import FailedPrecondition, Unauthenticated
from biosegment.ids import is_id
from biosegment_gateway.accounts.authentication import Authentication
from biosegment_gateway.accounts.password import Passwords
from biosegment_gateway.accounts.provider_sign_in import ProviderSignIn
from biosegment_gateway.accounts.session import Sessions
from biosegment_gateway.domain import token_id_of
from biosegment_gateway.ports import Accounts, ProviderUsers


class SignIn:
    """Begins sessions for those who prove who they are.

    Args:
        accounts: Who there is.
        authentication: Of API tokens.
        sessions: Where sessions begin.
        passwords: Of local users.
        links: Who is the provider's.
        provider: Where the others sign in; None when there is none.
        takes_passwords: Whether those may sign in with them.
    """

    def __init__(
        self,
        accounts: Accounts,
        authentication: Authentication,
        sessions: Sessions,
        passwords: Passwords,
        links: ProviderUsers,
        provider: ProviderSignIn | None = None,
        *,
        takes_passwords: bool,
    ) -> None:
        self._accounts = accounts
        self._authentication = authentication
        self.sessions = sessions
        self._passwords = passwords
        self._links = links
        self.provider = provider
        self.takes_passwords = takes_passwords

    async def knows(self, user_id: str) -> bool:
        """Whether there is such a user; False for what is no id at all."""
        return is_id(user_id) and await self._accounts.get_user(user_id) is not None

    async def with_password(self, user_id: str, password: str, address: str) -> str:
        """Begin a session for a local user and return its secret.

        Raises:
            FailedPrecondition: PASSWORDS_OFF.
            Unauthenticated: BAD_LOGIN; USER_DISABLED, to those who know the password.
            ResourceExhausted: TOO_MANY_TRIES.
        """
        if not self.takes_passwords:
            raise _passwords_off()
        await self._passwords.check(user_id, password, address)
        user = await self._accounts.get_user(user_id)
        if user is None or user.disabled:
            raise Unauthenticated("USER_DISABLED", f"user {user_id} may not sign in; ask an administrator")
        return await self.sessions.begin(user_id)

    async def of_client(self, user_id: str, secret: str, address: str) -> str:
        """What a client that knows nothing but user names and passwords carries from now on.

        Args:
            user_id: As typed; for a password of the provider, the name there.
            secret: An API token of the user, their password, or their password at the provider.
            address: Where it was typed.

        Returns:
            The API token, or the secret of a session.

        Raises:
            Unauthenticated: BAD_LOGIN, and as `Authentication.of_token`.
            ResourceExhausted: TOO_MANY_TRIES.
        """
        if token_id_of(secret):
            principal = await self._authentication.of_token(secret)
            if principal.user != user_id:
                raise Unauthenticated("BAD_LOGIN", "user id and API token do not belong together")
            return secret
        if self.provider is not None and self.provider.settings.oidc_password_grant:
            if not await self._passwords.has(user_id):
                return await self._at_provider(user_id, secret, address)
        elif not self.takes_passwords:
            raise Unauthenticated(
                "BAD_LOGIN",
                "the password here is an API token of yours: make one with `biosegment token create`",
            )
        try:
            return await self.with_password(user_id, secret, address)
        except Unauthenticated as error:
            if error.reason != "BAD_LOGIN":
                raise
            raise Unauthenticated(
                "BAD_LOGIN",
                "user id and password do not belong together; an API token of yours does as a password",
            ) from error

    async def _at_provider(self, name: str, password: str, address: str) -> str:
        assert self.provider is not None
        await self._passwords.tries.begin(name, address)
        user = await self.provider.with_password(name, password)
        await self._passwords.tries.succeed(name, address)
        return await self.sessions.begin(user.user_id)

    async def set_password(
        self, user_id: str, old_password: str | None, new_password: str, address: str
    ) -> None:
        """Set a user's password and end their sessions.

        Args:
            user_id: There must be such a user.
            old_password: Must be right where there is a password; None to go without.
            new_password: At least as long as is demanded.
            address: Where the old one was typed.

        Raises:
            FailedPrecondition: PASSWORDS_OFF, PROVIDER_USER.
            Unauthenticated: BAD_LOGIN.
            ResourceExhausted: TOO_MANY_TRIES.
            InvalidArgument: WEAK_PASSWORD, PASSWORD_TOO_LONG.
        """
        if not self.takes_passwords:
            raise _passwords_off()
        if await self._links.has(user_id):
            raise FailedPrecondition(
                "PROVIDER_USER",
                f"user {user_id} signs in at the identity provider; the password is changed there",
            )
        if old_password is not None and await self._passwords.has(user_id):
            await self._passwords.check(user_id, old_password, address)
        await self._passwords.set(user_id, new_password)
        await self.sessions.end_all(user_id)

    async def with_token(self, secret: str) -> str:
        """Begin a session that may do what an API token may, and ends with it; return the session's secret.

        Raises:
            Unauthenticated: As `Authentication.of_token`; BAD_TOKEN for what is no API token.
        """
        token_id = token_id_of(secret)
        if not token_id:
            raise Unauthenticated("BAD_TOKEN", "this is no API token; check that it was copied whole")
        principal = await self._authentication.of_token(secret)
        return await self.sessions.begin(principal.user, token_id)


def _passwords_off() -> FailedPrecondition:
    return FailedPrecondition(
        "PASSWORDS_OFF", "nobody signs in with a password here; use the lab's sign-in, or an API token"
    )
